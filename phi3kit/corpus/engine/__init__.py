"""What runs the stages of `prepare`: named folders, one process per rank, resumption, executors."""
