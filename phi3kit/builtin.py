"""The first plugin: what ships in this distribution, offered through the same hook as a stranger's."""

from __future__ import annotations

from phi3kit.hookspecs import hookimpl


@hookimpl
def phi3kit_components() -> list[type]:
    """Every component of the core."""
    from phi3kit.corpus import (
        HTML,
        Alphabet,
        BannedWords,
        BlockedURLs,
        Boilerplate,
        C4Lines,
        C4Paragraphs,
        C4Quality,
        ConversationFile,
        DocstringExercises,
        Files,
        FineWebQuality,
        FineWebWords,
        GopherQuality,
        GopherRepetition,
        GopherWords,
        JSONLines,
        Language,
        Length,
        Markdown,
        MaskPersonalData,
        ParquetFiles,
        PersonalData,
        PlainText,
        PreferenceFile,
        PythonDocs,
        PythonPreferences,
        PythonQuestions,
        Reasoning,
        Repetition,
        ScoreLimit,
        SourceCode,
    )
    from phi3kit.export import XNNPACK
    from phi3kit.model import GatedMLP, GroupedQueryAttention, LayerNorm, LongRoPE, Phi3Layout, RMSNorm, RoPE
    from phi3kit.phases import (
        DPO,
        ConversationBatches,
        NextToken,
        PreferenceBatches,
        TokenStream,
    )
    from phi3kit.quantizers import Int8DynamicInt4Weight
    from phi3kit.text import Cl100kTokenizer, HuggingFaceTokenizer

    return [
        GroupedQueryAttention,
        GatedMLP,
        LongRoPE,
        RoPE,
        RMSNorm,
        LayerNorm,
        Phi3Layout,
        Cl100kTokenizer,
        HuggingFaceTokenizer,
        PythonDocs,
        Files,
        JSONLines,
        ParquetFiles,
        PlainText,
        Markdown,
        HTML,
        Length,
        Alphabet,
        Repetition,
        Boilerplate,
        Reasoning,
        FineWebWords,
        GopherWords,
        BlockedURLs,
        Language,
        GopherRepetition,
        GopherQuality,
        C4Quality,
        C4Lines,
        C4Paragraphs,
        FineWebQuality,
        SourceCode,
        BannedWords,
        PersonalData,
        MaskPersonalData,
        ScoreLimit,
        DocstringExercises,
        PythonQuestions,
        PythonPreferences,
        ConversationFile,
        PreferenceFile,
        NextToken,
        DPO,
        TokenStream,
        ConversationBatches,
        PreferenceBatches,
        Int8DynamicInt4Weight,
        XNNPACK,
    ]
