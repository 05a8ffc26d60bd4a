"""``APPS.md``: how this bundle gets into each app, with its own file names, template and limits.

What the apps do was read in their sources in November 2026, not tried on a phone: LlamaDemo's and etLLM's in
meta-pytorch/executorch-examples (`llm/android/LlamaDemo`, `llm/apple`), react-native-executorch's in its npm package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FILE = "APPS.md"
FOLDER = "/data/local/tmp/llama"  # the only one LlamaDemo looks into
LLAMADEMO_TOKENS, ETLLM_TOKENS = 768, 128  # of question and answer together: TEXT_MODEL_SEQ_LEN, sequenceLength
ETLLM_TEMPLATE = {"begin": "", "user": "<|user|>{content}<|end|>", "answer": "<|assistant|>"}  # phi4PromptTemplate
PLACEHOLDER = "{{ user_prompt }}"
ANDROID = {"XnnpackBackend": "XNNPACK", "VulkanBackend": "VULKAN"}  # LlamaDemo's names for what it can link
IOS = {"XnnpackBackend": "backend_xnnpack", "CoreMLBackend": "backend_coreml", "MPSBackend": "backend_mps"}


def instructions(about: Mapping[str, Any], sha256: str) -> str:
    """The page, as Markdown.

    Args:
        about: the content of bundle.json.
        sha256: of the program.
    """
    parts = [_head(about), _llamademo(about, sha256), _etllm(about), _react_native(about), _own(about)]
    return "\n\n".join(parts) + "\n"


def _head(about: Mapping[str, Any]) -> str:
    made = about["versions"]["executorch"]
    minor = ".".join(made.split(".")[:2])
    delegates = ", ".join(about["program"]["delegates"]) or "none"
    notes = "".join(f"\n\n**Note**: {note.rstrip('.')}." for note in about["notes"])
    return f"""# {about["name"]} in an app

`{about["model"]}` ({about["bytes"]["program"] / 1e6:,.1f} MB). Conversations of {about["context"]:,} tokens, questions
and answers together. Delegates: {delegates}.{notes}

**Versions.** Made with ExecuTorch {made}. A runtime of at least {minor} runs it; of an older one ExecuTorch promises
nothing, and point 3 of `verification.html` says whether it has all operators. LlamaDemo and etLLM pin 1.1.0: raise
the pin, to `org.pytorch:executorch-android:{made}` in `app/build.gradle.kts`, and to the branch `swiftpm-{made}`
in Xcode. react-native-executorch brings a build of its own, of ExecuTorch 1.3 by its history.

**First on this computer**: `phi3kit verify` this folder, then `phi3kit chat` with it. What fails there fails on a
phone."""


def _llamademo(about: Mapping[str, Any], sha256: str) -> str:
    title = "## LlamaDemo (Android, Meta's demo)"
    backends = [ANDROID[name] for name in about["program"]["delegates"] if name in ANDROID]
    if len(backends) < len(about["program"]["delegates"]):
        return f"{title}\n\nNot for Android: its runtimes have no {', '.join(about['program']['delegates'])}."
    tokenizer, limit = f"{about['name']}-tokenizer.json", min(about["context"], LLAMADEMO_TOKENS)
    prompt = about["template"]["next"].replace("{content}", PLACEHOLDER)
    ending = "with the newline at its end" if prompt.endswith("\n") else "without a newline at its end"
    aar = "; link `org.pytorch:executorch-android-vulkan`" if "VULKAN" in backends else ""
    return f"""{title}

```sh
adb shell mkdir -p {FOLDER}
adb push {about["model"]} {FOLDER}/
adb push {about["tokenizer"]} {FOLDER}/{tokenizer}
adb shell sha256sum {FOLDER}/{about["model"]}
```

The last line must print `{sha256}`.
Push no other JSON file there: the app offers every one as a tokenizer.

In the app's settings, in this order, since choosing a model or a type sets what comes after it:

1. *Backend*: {backends[0] if backends else "XNNPACK"}{aar}. *Model*: `{about["model"]}`. *Tokenizer*: `{tokenizer}`.
2. *Model Type*: LLAMA_3 (there is no Phi type; the Gemma, LLaVA and Voxtral types use another runner).
3. *Temperature*: 0 to 1. The slider goes to 2, but above 1 the runner refuses.
4. *Advanced Options*, *System Prompt*: empty. *Prompt Format*, replacing what is there, {ending}:

```text
{prompt.removesuffix(chr(10))}
```

5. *Load Model*.

What to expect:

* The first question after each start of the app has Llama 3's system header in front of it, as plain text; no setting
  removes it. The answer to it may suffer; send something unimportant first. `mobile/bundle.md` has a Phi type to add.
* Each answer ends with a visible `{
        about["stop"]["tokens"][0]
    }`. The format above begins with one, since the runner has not read it.
* After {limit} tokens in all, questions get no answer: clear the chat.
* "Model load failure": the runtime is too old, a file is cut short (compare the sha256), or memory is short.{
        _text_only(about)
    }"""


def _etllm(about: Mapping[str, Any]) -> str:
    title, template = "## etLLM (iOS, Meta's demo)", about["template"]
    if not set(about["program"]["delegates"]) <= set(IOS):
        return f"{title}\n\nNot for iOS: its runtimes have no {', '.join(about['program']['delegates'])}."
    fits = all(template[piece] == text for piece, text in ETLLM_TEMPLATE.items())
    said = (
        "is this model's" if fits else "is **not** this model's: expect worse answers, or change `phi4PromptTemplate`"
    )
    shown = ETLLM_TEMPLATE["user"].replace("{content}", "…") + ETLLM_TEMPLATE["answer"]
    return f"""{title}

1. Build it in Xcode with a profile that has the `increased-memory-limit` entitlement, and start it once.
2. Copy `{about["model"]}` and `{about["tokenizer"]}` into its folder: connect the device, open it in Finder,
   *Files*, drag both onto *etLLM* (Windows: iTunes, *File Sharing*). Simulator: drag both onto its window,
   *On My iPhone*, *etLLM*.
3. In the app: the folder button, choose the model, choose the tokenizer, ask.

Keep the file name: the app takes its template from the prefix `phi4`, and exits on a prefix it does not know. That
template, `{shown}`, {said}.

What to expect: single questions, at most {ETLLM_TOKENS} tokens with their answer, sampled at temperature 0.8; nothing
is remembered. Newlines at the ends of pieces are dropped, and up to two last pieces of an answer are not shown (it
shows three at a time). Characters of several pieces (emoji) may stop the app.{_text_only(about)}"""


def _text_only(about: Mapping[str, Any]) -> str:
    return " It can talk, but not see: no type of the app makes this model's images." if about.get("vision") else ""


def _react_native(about: Mapping[str, Any]) -> str:
    vision = about.get("vision")
    notes = [
        "React Native 0.81 or later, iOS 17, Android 13. Paths are local, without `file://`, or URLs.",
        "`echo: false`: ExecuTorch's default puts the prompt in front of the answer.",
        f"`getKVCacheState()` counts towards {about['context']:,}; a message that does not fit is rejected.",
        "It goes back to the end of the question after each answer and reads the answer again, as "
        "`tokenizer_config.json` writes it.",
    ]
    if about["remembers"] < about["context"]:
        notes.append("This bundle's cache slides, and going back is not fine in it: pass `resetOnTurn: true`.")
    if vision:
        notes.append("An image is a part of the message: `sendMessage([{ kind: 'image', image }, 'What is it?'])`.")
    return f"""## react-native-executorch 0.10

```sh
npm install react-native-executorch@~0.10.2 react-native-worklets react-native-blob-util
```

```tsx
import {{ useLLMChatSession }} from 'react-native-executorch';

const folder = '/path/on/the/device'; // or a URL
const session = useLLMChatSession(
  {{
    modelPath: `${{folder}}/{about["model"]}`,
    tokenizerPath: `${{folder}}/{about["tokenizer"]}`,
    tokenizerConfigPath: `${{folder}}/{about["tokenizer_config"]}`,{_modalities(vision)}
  }},
  {{ generationConfig: {{ echo: false, temperature: 0.7 }} }}
);
// once session.isReady:
const turn = await session.sendMessage?.('Hello', (piece) => console.log(piece));
```

{chr(10).join(f"* {note}" for note in notes)}"""


def _modalities(vision: Mapping[str, Any] | None) -> str:
    """How it makes pixels, as `bundle.json` wants them."""
    if not vision:
        return ""
    return f"""
    modalities: ['image'],
    preprocessorConfig: {{
      image: {{
        visionToken: {{ start: '', end: '' }},
        targetShape: [{vision["channels"]}, {vision["height"]}, {vision["width"]}],
        preprocessorOpts: {{
          resizeMode: 'letterbox',
          interpolation: 'cubic',
          padValue: 255,
          normalizeOpts: {{ alpha: 1, beta: 0 }},
        }},
      }},
    }},"""


def _own(about: Mapping[str, Any]) -> str:
    template = about["template"]
    first, later = template["begin"] + template["user"] + template["answer"], template["next"]
    shown = [
        f"* {when}: `{text.replace(chr(10), '⏎')}`" for when, text in (("first question", first), ("later ones", later))
    ]
    *first_stops, last_stop = (f"`{token}`" for token in about["stop"]["tokens"])
    stops = f"{', '.join(first_stops)} or {last_stop}" if first_stops else last_stop
    return f"""## Your own app

`TextLLMRunner` (C++), `LlmModule` (Android), `TextRunner` (iOS), as `mobile/bundle.md` of phi3kit says. In short:

{chr(10).join(shown)}{" (⏎ is a newline)" if "⏎" in "".join(shown) else ""}
* stop at the ids {", ".join(map(str, about["stop"]["ids"]))}, and show no piece that equals {stops};
* remove the names of special tokens from what users write; `echo` off, `num_bos` 0, temperature at most 1."""
