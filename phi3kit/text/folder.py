"""A tokenizer in a folder that says what it is: data, runs and bundles carry theirs along."""

from __future__ import annotations

import json
import os
from pathlib import Path

from phi3kit import plugins
from phi3kit.errors import UserError
from phi3kit.families import Tokenizer
from phi3kit.text.chat_form import load_form, save_form

ABOUT = "about.json"


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the tokenizer into a folder (made if need be) that `load_tokenizer` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(folder)
    about = {
        "tokenizer": type(tokenizer).__name__,
        "fingerprint": tokenizer.fingerprint,
        "vocab_size": tokenizer.vocab_size,
        **save_form(tokenizer.chat_form, folder),
    }
    fresh = folder / f"{ABOUT}.new"
    fresh.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    os.replace(fresh, folder / ABOUT)


def tokenizer_going_on(folder: Path, before: Path | None) -> Tokenizer:
    """A folder's tokenizer for a net that goes on from a run: where it does not say how conversations are written, they
    are written as that run's tokenizer, in the folder `before`, says.

    Raises:
        UserError: as `load_tokenizer`; or they are not the same tokenizer.
    """
    tokenizer = load_tokenizer(folder)
    if before is None or before == folder:
        return tokenizer
    own = load_tokenizer(before)
    if tokenizer.fingerprint != own.fingerprint:
        raise UserError(f"{folder} is not the tokenizer that {before.parent} was trained with; use {before}")
    tokenizer.chat_form = tokenizer.chat_form or own.chat_form
    return tokenizer


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer `save_tokenizer` wrote. Its class is looked up among the installed components only.

    Raises:
        UserError: nothing there, a component that is not installed, or files changed since.
    """
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        name, fingerprint = about["tokenizer"], about["fingerprint"]
    except OSError as error:
        raise UserError(f"no tokenizer in {folder}: {error.strerror} ({ABOUT})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / ABOUT} is damaged: {error}") from error
    component = plugins.load().find(name)
    if component is None or component.family is not Tokenizer:
        raise UserError(f"{folder / ABOUT}: {plugins.unknown_component(name, Tokenizer)}")
    tokenizer: Tokenizer = component.cls.load(folder)  # type: ignore[attr-defined]
    if tokenizer.fingerprint != fingerprint:
        raise UserError(f"the tokenizer in {folder} was changed after it was saved; restore it or prepare again")
    tokenizer.chat_form = load_form(about, folder)
    return tokenizer
