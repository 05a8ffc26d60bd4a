"""For tests, ours and a plugin's: the laws of each family (`contracts`) and tiny parts to try them on (`tiny`)."""
