"""Streaming: what is given in chunks is what a whole would be, to the sample where it can be."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator

import mlx.core as mx
import numpy as np
import pytest

from mlx_audio_turbo import AudioChunk, ChatterboxTurbo, ChunkOptions, OptionError, TextError, Voice
from mlx_audio_turbo.config import SAMPLES_PER_FRAME, SAMPLES_PER_TOKEN
from mlx_audio_turbo.options import PauseOptions
from mlx_audio_turbo.synthesis import scheduler
from mlx_audio_turbo.synthesis.noise import NoiseSource
from mlx_audio_turbo.synthesis.streaming_vocoder import (
    CONTEXT_FRAMES,
    F0_CONTEXT_FRAMES,
    StreamingVocoder,
)
from mlx_audio_turbo.synthesis.token_to_wav import (
    LATENCY_TOKENS,
    TokenToWav,
    group_by_length,
    render_batch,
    tokens_due,
)

from .conftest import CLIP
from .helpers import snr
from .measure.streaming import smooth_mel, steady_f0

TEXT = "Hello there. [laugh]"
LONG = "One sentence is said. " * 10 + "\n\n" + "And another is said after it. " * 8


def on_engine(model: ChatterboxTurbo, work: Callable):
    """The model's arrays are its own thread's."""
    return model._engine.run(work)


def joined(chunks: list[AudioChunk]) -> np.ndarray:
    return np.concatenate([chunk.audio for chunk in chunks])


@pytest.fixture(scope="module")
def odd_voice(model: ChatterboxTurbo) -> Voice:
    """Of a clip of 5.02 s: 251 mel frames."""
    from mlx_audio_turbo.audio.files import load_audio

    return model.encode_voice(load_audio(CLIP, sample_rate=24_000)[:120_480], sample_rate=24_000)


@pytest.fixture(scope="module")
def seed(model: ChatterboxTurbo, voice: Voice) -> int:
    """One with which the untrained model speaks for more than 45 tokens."""
    for seed in range(100):
        speech = model.generate(TEXT, voice=voice, seed=seed, max_tokens=70, watchdog=None)
        if len(speech.tokens) > 45:
            return seed
    raise AssertionError("the untrained model never speaks for long")


@pytest.mark.parametrize("cuts", [(40, 60, 100), (24, 24, 24, 24, 104), (30, 170), (100, 1, 99)])
def test_the_vocoder_in_pieces_is_the_vocoder(
    model: ChatterboxTurbo, cuts: tuple[int, ...]
) -> None:
    """At full reach to rounding; at the streaming look-ahead 40 dB and more, and without a step."""
    mel, total = smooth_mel(sum(cuts)), sum(cuts)

    def vocode(parts: tuple[int, ...], lookahead: int) -> np.ndarray:
        vocoder = StreamingVocoder(model._networks.s3gen.mel2wav, NoiseSource(mx.random.key(4)))
        out, at = [], 0
        for part in parts:
            piece = mx.array(mel[:, at : at + part])
            at += part
            out += list(vocoder.push(piece, final=at == total, lookahead=lookahead))
        return np.concatenate(out)

    with steady_f0():
        whole = on_engine(model, lambda: vocode((total,), CONTEXT_FRAMES))
        exact = on_engine(model, lambda: vocode(cuts, CONTEXT_FRAMES))
        streamed = on_engine(model, lambda: vocode(cuts, 10))
    assert len(whole) == len(exact) == len(streamed) == total * SAMPLES_PER_FRAME
    assert snr(exact, whole) > 90
    assert snr(streamed, whole) > 40
    for seam in np.cumsum(cuts)[:-1] - 10:
        at = int(seam) * SAMPLES_PER_FRAME
        if at > 2400:
            around = np.abs(np.diff(streamed[at - 1200 : at + 1200]))
            assert np.abs(streamed[at] - streamed[at - 1]) <= 1.1 * around.max()


def test_f0_of_a_piece_is_that_of_the_whole(model: ChatterboxTurbo) -> None:
    """But for its last bits: nothing beyond F0_CONTEXT_FRAMES is heard."""
    mel, network = mx.array(smooth_mel(60)), model._networks.s3gen.mel2wav

    def both() -> tuple[np.ndarray, np.ndarray]:
        piece = network.f0(mel[:, 20 - F0_CONTEXT_FRAMES : 40 + F0_CONTEXT_FRAMES])[
            :, F0_CONTEXT_FRAMES:-F0_CONTEXT_FRAMES
        ]
        return np.array(piece), np.array(network.f0(mel)[:, 20:40])

    piece, whole = on_engine(model, both)
    assert piece.shape == whole.shape == (1, 20)
    np.testing.assert_allclose(piece, whole, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("block", [pytest.param(7, marks=pytest.mark.slow), 50])
def test_blocks_bound_the_memory_and_change_nothing(
    model: ChatterboxTurbo, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    mel = smooth_mel(120)

    def vocode() -> list[np.ndarray]:
        vocoder = StreamingVocoder(model._networks.s3gen.mel2wav, NoiseSource(mx.random.key(4)))
        return list(vocoder.push(mx.array(mel), final=True))

    (whole,) = on_engine(model, vocode)
    monkeypatch.setattr("mlx_audio_turbo.synthesis.streaming_vocoder.BLOCK", block)
    parts = on_engine(model, vocode)
    assert len(parts) == -(-120 // block)
    assert snr(np.concatenate(parts), whole) > 90


def lengths(model: ChatterboxTurbo, voice: Voice, counts: list[int], sizes: tuple[int, ...]):
    """Samples of a stream of so many tokens, whatever the chunks."""
    options = ChunkOptions(sizes=sizes, window=20)

    def render(count: int) -> int:
        renderer = TokenToWav(
            model._networks.s3gen,
            voice,
            NoiseSource(mx.random.key(0)),
            model.config.rendering,
            window=20,
        )
        tokens, samples, chunk = list(range(count)), 0, 0
        while tokens_due(chunk, options) < count:
            pieces = renderer.push(tokens[: tokens_due(chunk, options)], final=False)
            samples += sum(map(len, pieces))
            chunk += 1
        return samples + sum(map(len, renderer.push(tokens, final=True)))

    return on_engine(model, lambda: [render(count) for count in counts])


def test_every_length_is_exact(model: ChatterboxTurbo, odd_voice: Voice) -> None:
    """A first chunk that is due, or nearly, at the very end; prompts of odd length."""
    first = LATENCY_TOKENS + 10
    counts = [1, 2, 3, 9, 10, 11, first - 1, first, first + 1, first + 2, first + 25, first + 26]
    expected = [SAMPLES_PER_TOKEN * (count + 3) for count in counts]
    assert lengths(model, odd_voice, counts, (10, 25)) == expected


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [ChunkOptions().sizes, (40,)])
def test_every_length_to_200_is_exact(
    model: ChatterboxTurbo, odd_voice: Voice, voice: Voice, sizes: tuple[int, ...]
) -> None:
    counts = list(range(1, 201))
    expected = [SAMPLES_PER_TOKEN * (count + 3) for count in counts]
    for each in (odd_voice, voice):
        assert lengths(model, each, counts, sizes) == expected
        assert [len(model.render(np.arange(n), voice=each)) for n in counts] == expected


def test_a_stream_is_as_long_as_the_whole(model: ChatterboxTurbo, voice: Voice, seed: int) -> None:
    speech = model.generate(TEXT, voice=voice, seed=seed, max_tokens=70, watchdog=None)
    for sizes in ((10, 25), (5,), (200,)):
        chunks = list(
            model.stream(
                TEXT,
                voice=voice,
                seed=seed,
                max_tokens=70,
                watchdog=None,
                chunks=ChunkOptions(sizes=sizes),
            )
        )
        assert len(joined(chunks)) == len(speech.audio)
        assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
        assert [chunk.is_last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
        assert {chunk.text for chunk in chunks} == {TEXT}
    whole_in_one = joined(chunks)
    np.testing.assert_array_equal(whole_in_one, speech.audio)


def test_the_start_does_not_wait_for_the_end(
    model: ChatterboxTurbo, voice: Voice, seed: int
) -> None:
    sizes = ChunkOptions(sizes=(5,))
    chunks = model.stream(TEXT, voice=voice, seed=seed, watchdog=None, chunks=sizes)
    first = next(chunks)
    assert len(first.audio) == 5 * SAMPLES_PER_TOKEN
    assert not first.is_last
    chunks.close()  # pyright: ignore[reportAttributeAccessIssue]


def test_stream_raises_errors_before_the_first_chunk(model: ChatterboxTurbo, voice: Voice) -> None:
    with pytest.raises(TextError):
        model.stream("", voice=voice)
    with pytest.raises(OptionError):
        model.stream(TEXT, voice=voice, top_p=3.0)
    with pytest.raises(OptionError):
        ChunkOptions(sizes=())
    with pytest.raises(OptionError):
        ChunkOptions(window=-1)


def test_long_text_is_spoken_in_segments(model: ChatterboxTurbo, voice: Voice) -> None:
    none = PauseOptions(sentence=0, paragraph=0, clause=0, word=0)
    speech = model.generate(LONG, voice=voice, seed=1, max_tokens=12, pauses=none, watchdog=None)
    paused = model.generate(
        LONG, voice=voice, seed=1, max_tokens=12, watchdog=None, pauses=PauseOptions(paragraph=0.5)
    )
    assert len(paused.audio) - len(speech.audio) == 12_000
    chunks = list(
        model.stream(LONG, voice=voice, seed=1, max_tokens=12, pauses=none, watchdog=None)
    )
    assert len({chunk.text for chunk in chunks}) == 2
    np.testing.assert_array_equal(joined(chunks), speech.audio)
    assert [chunk.is_last for chunk in chunks] == [False, True]


@pytest.mark.parametrize("rendered", ["each", "together"])
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_a_batch_gives_each_what_it_would_get_alone(
    model: ChatterboxTurbo,
    voice: Voice,
    odd_voice: Voice,
    batch_size: int,
    rendered: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whichever way the device would have it rendered."""
    if rendered == "together":
        monkeypatch.setattr(scheduler, "renders_together", lambda: True)
    texts = ["Hello there.", "What a long and winding sentence this one is.", "Oh!", LONG]
    voices = [voice, odd_voice, voice, odd_voice]
    together = list(
        model.generate_batch(
            texts, voices=voices, seed=4, max_tokens=25, temperature=0, batch_size=batch_size
        )
    )
    assert [speech.text for speech in together] == texts
    for speech, text, each in zip(together, texts, voices, strict=True):
        alone = model.generate(text, voice=each, seed=4, max_tokens=25, temperature=0, batch_size=1)
        np.testing.assert_array_equal(speech.tokens, alone.tokens)
        assert len(speech.audio) == len(alone.audio)
        assert snr(speech.audio, alone.audio) >= 50


def test_utterances_of_like_length_and_prompt_are_rendered_together(
    model: ChatterboxTurbo, voice: Voice, odd_voice: Voice
) -> None:
    voices = [voice, odd_voice, voice, voice, voice, odd_voice]
    tokens = [[i % 50 for i in range(count)] for count in (20, 20, 16, 4, 19, 15)]
    s3gen = model._networks.s3gen

    def renderers() -> list[TokenToWav]:
        return [
            TokenToWav(s3gen, v, NoiseSource(mx.random.key(i)), model.config.rendering)
            for i, v in enumerate(voices)
        ]

    groups = group_by_length(list(zip(renderers(), tokens, strict=True)))
    assert sorted(map(sorted, groups)) == [[0, 2, 4], [1, 5], [3]]

    def both() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        one, many = renderers(), renderers()
        for group in groups:
            made = render_batch([many[i] for i in group], [tokens[i] for i in group])
            for i, pieces in zip(group, made, strict=True):
                alone = list(one[i].push(tokens[i], final=True))
                yield np.concatenate(pieces), np.concatenate(alone)

    for together, alone in on_engine(model, lambda: list(both())):
        assert len(together) == len(alone)
        assert snr(together, alone) >= 50
    with pytest.raises(ValueError, match="several lengths"):
        on_engine(model, lambda: render_batch(renderers()[:2], tokens[:2]))


def test_results_of_a_batch_come_as_soon_as_in_order(model: ChatterboxTurbo, voice: Voice) -> None:
    results = model.generate_batch(["One."] * 6, voice=voice, seed=0, max_tokens=10, batch_size=2)
    assert next(results).text == "One."
    assert len(list(results)) == 5


def test_threads_do_not_mix(model: ChatterboxTurbo, voice: Voice, odd_voice: Voice) -> None:
    jobs = [(seed, each) for seed in (1, 2) for each in (voice, odd_voice)]
    alone = [model.generate(TEXT, voice=v, seed=s, max_tokens=8).audio for s, v in jobs]
    results: dict[int, np.ndarray] = {}

    def call(i: int) -> None:
        seed, each = jobs[i % len(jobs)]
        if i % 2:
            results[i] = model.generate(TEXT, voice=each, seed=seed, max_tokens=8).audio
        else:
            results[i] = joined(list(model.stream(TEXT, voice=each, seed=seed, max_tokens=8)))

    threads = [threading.Thread(target=call, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for i in range(8):
        np.testing.assert_array_equal(results[i], alone[i % len(jobs)])


def test_a_stream_can_be_read_from_asyncio(model: ChatterboxTurbo, voice: Voice) -> None:
    import asyncio

    async def speak(seed: int) -> np.ndarray:
        speech = await asyncio.to_thread(model.generate, TEXT, voice=voice, seed=seed, max_tokens=6)
        return speech.audio

    async def both() -> list[np.ndarray]:
        return list(await asyncio.gather(speak(1), speak(2), speak(1)))

    first, second, again = asyncio.run(both())
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)


def test_closing_a_stream_frees_what_it_held(
    model: ChatterboxTurbo, voice: Voice, seed: int
) -> None:
    # The first stream computes tables of positions that stay.
    list(model.stream(TEXT, voice=voice, seed=seed, max_tokens=120, watchdog=None))
    gc.collect()
    mx.clear_cache()
    before = mx.get_active_memory()
    chunks = model.stream(TEXT, voice=voice, seed=2, watchdog=None, chunks=ChunkOptions(sizes=(1,)))
    next(chunks)
    chunks.close()  # pyright: ignore[reportAttributeAccessIssue]
    deadline = time.monotonic() + 20
    while mx.get_active_memory() > before + 200_000 and time.monotonic() < deadline:
        time.sleep(0.05)
        gc.collect()
    assert mx.get_active_memory() <= before + 200_000


def test_the_watchdog_draws_again_and_says_so(
    model: ChatterboxTurbo, voice: Voice, caplog: pytest.LogCaptureFixture
) -> None:
    """Greedy speech of this model falls into a loop; another draw does not help it."""
    from mlx_audio_turbo.options import WatchdogOptions

    watchdog = WatchdogOptions(max_run=1, max_silence=1, max_cycle=16)
    caplog.set_level("WARNING", logger="mlx_audio_turbo")
    speech = model.generate(
        TEXT, voice=voice, seed=0, temperature=0, max_tokens=60, watchdog=watchdog, retries=1
    )
    assert "sampled again" in caplog.text
    assert "got stuck" in speech.notes[0]
    assert len(speech.tokens) < 60


def test_trimmed_audio_fades_out_and_keeps_the_rest(
    model: ChatterboxTurbo, voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlx_audio_turbo.options import TrimOptions

    whole = model.generate(TEXT, voice=voice, seed=3, max_tokens=20)
    monkeypatch.setattr(
        "mlx_audio_turbo.synthesis.session.speech_end", lambda audio, **_: len(audio) // 2
    )
    half = model.generate(TEXT, voice=voice, seed=3, max_tokens=20, trim=TrimOptions())
    assert len(half.audio) == len(whole.audio) // 2
    assert half.audio[-1] == 0
    np.testing.assert_array_equal(half.audio[:-480], whole.audio[: len(half.audio) - 480])
