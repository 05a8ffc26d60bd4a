"""A run folder -> a public checkpoint folder, which transformers opens.

Special here: where the run came from a public folder, the way back uses what that held (see `origin`): the same shards,
names and order, the same files beside them. A run that was only converted comes back bit for bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import torch

from phi3kit.checkpoints.chat_files import forget_chat_files
from phi3kit.checkpoints.copying import Move, copy, sharded
from phi3kit.checkpoints.door import compare_templates
from phi3kit.checkpoints.inward import index
from phi3kit.checkpoints.layouts import doubled, layout_of_net
from phi3kit.checkpoints.origin import Origin, changed_config, find_origin
from phi3kit.checkpoints.plan import Conversion
from phi3kit.checkpoints.public_folder import CONFIG
from phi3kit.checkpoints.tokenizer_files import generation_config, token_ids, write_json, write_public_tokenizer
from phi3kit.errors import UserError
from phi3kit.families import Tokenizer
from phi3kit.model import weights
from phi3kit.model.load import build_net, net_section, whole_section
from phi3kit.model.stored import INDEX, Stored
from phi3kit.model.tensor_file import NAMES, Form, create, header
from phi3kit.text import load_tokenizer
from phi3kit.text.chat_form import with_form


@final
class Outward(Conversion):
    """From ours to the public layout.

    Args:
        run: the run folder.
        dtype: of the weights; None: as they are stored.
    """

    def __init__(self, run: Path, dtype: torch.dtype | None) -> None:
        self.run = run
        self.section = whole_section(net_section(run))
        self.layout = layout_of_net(self.section)
        self.net = build_net(self.section, "meta")
        self.stored = weights.fitting(self.net, run)
        self.moves, self.forms = self._moves(dtype)
        self.origin = self._origin()
        carried = self.origin.carried.forms if self.origin else {}
        self.forms |= carried
        self.tokenizer = self._tokenizer()
        self.headers = self._headers()
        self.size = sum(form.bytes for form in self.forms.values())
        self.summary = self._summary()

    def write(self, out: Path) -> Iterator[int]:
        files = Stored([create(out / name, head) for name, head in self.headers.items()])
        yield from copy(self.moves, self.stored, files)
        if self.origin is not None:
            carried = [Move(name, name) for name in self.origin.carried.place]
            yield from copy(carried, self.origin.carried, files, checked=False)
        for file in files.files.values():
            file.finish()
        if self.origin is not None:
            self.origin.copy_files(out)
        if self.tokenizer is not None:
            forget_chat_files(out)
            write_public_tokenizer(self.tokenizer, self.net.dims.context, out)
            write_json(out / "generation_config.json", generation_config(self.tokenizer))
        if not self._as_it_was():
            (out / INDEX).unlink(missing_ok=True)
            if len(self.headers) > 1:
                write_json(out / INDEX, index(files))
        config = self._config()
        if self.origin is None or config != self.origin.config:
            write_json(out / CONFIG, config)

    def _moves(self, dtype: torch.dtype | None) -> tuple[list[Move], dict[str, Form]]:
        """What fills each public tensor, those that are held twice too, and their forms."""
        own, stored = self.net.state_dict(), self.stored.forms
        moves, forms = {}, {}
        for part in self.layout.parts(self.net):
            name = weights.to_hugging_face(part.ours)
            moves[part.theirs] = Move(name, part.theirs, source_place=part.place)
            forms[part.theirs] = Form(dtype or stored[name].dtype, tuple(own[part.ours][part.place].shape))
        for copied, original in self.layout.copies(self.net).items():
            moves[copied], forms[copied] = moves[original]._replace(target=copied), forms[original]
        return list(moves.values()), forms

    def _origin(self) -> Origin | None:
        """Where the run came from, if that had the same tensors; a head or copy it had or lacked is followed."""
        origin = find_origin(self.run)
        if origin is None or not self.layout.architectures.intersection(origin.config["architectures"][:1]):
            return None
        there = {name for names in origin.names.values() for name in names}
        copies = doubled(self.layout, self.net)
        if there - copies.keys() != (self.forms.keys() - copies.keys()) | origin.carried.place.keys():
            return None
        originals = {move.target: move for move in self.moves}
        self.moves = [move for move in self.moves if move.target in there]
        for name in there & copies.keys() - originals.keys():
            self.moves.append(originals[copies[name]]._replace(target=name))
            self.forms[name] = self.forms[copies[name]]
        self.forms = {name: form for name, form in self.forms.items() if name in there}
        return origin

    def _headers(self) -> dict[str, bytes]:
        if self.origin is None:
            return sharded(self.forms)
        if self._as_it_was():
            return self.origin.headers
        return {file: header({name: self.forms[name] for name in names}) for file, names in self.origin.names.items()}

    def _as_it_was(self) -> bool:
        """Whether every tensor has the form it came with."""
        return self.origin is not None and self.origin.forms == self.forms

    def _tokenizer(self) -> Tokenizer | None:
        """The run's tokenizer, where its public files must be made; None where they are carried, or there is none.

        They are carried where they say what the run was trained with: its tokenizer, and its way of writing
        conversations. A run that was only converted is given back as it came.
        """
        if not (self.run / "tokenizer").is_dir():
            return None
        tokenizer = load_tokenizer(self.run / "tokenizer")
        before = self.origin.path.parent / "tokenizer" if self.origin else None
        if self.origin is None or before is None or not before.is_dir():
            return tokenizer
        if load_tokenizer(before).fingerprint != tokenizer.fingerprint:
            return tokenizer
        only_converted = self.origin.path.parent.resolve() == self.run.resolve()
        return None if only_converted or self._chats_as(tokenizer, self.origin.path) else tokenizer

    def _chats_as(self, tokenizer: Tokenizer, folder: Path) -> bool:
        """Whether a public folder's files say of conversations what a run's tokenizer does."""
        try:
            return compare_templates(folder, with_form(tokenizer, None)).form == tokenizer.chat_form
        except UserError:
            return False

    def _config(self) -> dict[str, Any]:
        now = self.layout.config(self.section)
        assert now is not None
        dtype = str(self._dtype()).removeprefix("torch.")
        ids: dict[str, int | None] = {**token_ids(self.tokenizer)} if self.tokenizer else {}
        if self.origin is None:
            unknown = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))  # not the class's defaults
            return {**now, **unknown, **ids, "torch_dtype": dtype}
        before = self.layout.config(whole_section(self.layout.net(self.origin.config)))
        assert before is not None
        renamed = self.origin.knows_longrope
        config = changed_config(self.origin.config, before, now, renamed=renamed) | ids
        key = "dtype" if "dtype" in config else "torch_dtype"
        return config if self._as_it_was() else config | {key: dtype}

    def _dtype(self) -> torch.dtype:
        """The type of most of the numbers."""
        numbers: Counter[torch.dtype] = Counter()
        for form in self.forms.values():
            numbers[form.dtype] += form.bytes // form.dtype.itemsize
        return numbers.most_common(1)[0][0]

    def _summary(self) -> list[str]:
        architecture = self._config()["architectures"][0]
        if self.origin is None:
            beside = "config.json and generation_config.json are made for it"
        elif self._as_it_was():
            beside = f"files, names and order as in {self.origin.path}"
        else:
            beside = f"files as in {self.origin.path}, the weights in another type"
        lines = [
            f"{self.run.name}: {architecture}, {self.net.parameter_count():,} parameters in {len(self.forms)} tensors "
            f"of {len(self.headers)} files, {NAMES[self._dtype()]}",
            beside,
        ]
        if self.tokenizer is None and self.origin is None:
            lines.append("the run has no tokenizer; copy one's files beside the weights")
        return lines
