"""Files, resampling, loudness and features; each trap of the front ends has a test here."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from mlx_audio_turbo.audio.files import (
    check_samples,
    check_writable,
    encode_audio,
    load_audio,
    write_audio,
    write_blocks,
)
from mlx_audio_turbo.audio.loudness import normalize_loudness
from mlx_audio_turbo.audio.mel import htk_filters, slaney_filters
from mlx_audio_turbo.audio.resample import resample_sinc, resample_soxr
from mlx_audio_turbo.audio.stft import frame, hann, power_spectrum, reflect_pad
from mlx_audio_turbo.encoders.features import (
    kaldi_fbank,
    prompt_mel,
    s3_log_mel,
    trim_silence,
    voice_mel,
)
from mlx_audio_turbo.errors import AudioError, ExtraError

from .measure.parity.rows import max_abs

HERE = Path(__file__).parent
CLIP = HERE / "data" / "1069-133699-0000.flac"


@pytest.fixture(scope="module")
def librosa() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import librosa

        librosa.filters.mel(sr=16_000, n_fft=400, n_mels=40)  # its modules load when first used
    return librosa


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    """The clip at 24 kHz and -27 LUFS."""
    return normalize_loudness(load_audio(CLIP, sample_rate=24_000), 24_000, target=-27.0)


@pytest.fixture(scope="module")
def voice(clip: np.ndarray) -> np.ndarray:
    """The clip at 16 kHz, as the VoiceEncoder hears it."""
    return resample_soxr(clip, 24_000, 16_000)


@pytest.fixture(scope="module")
def prompt(clip: np.ndarray) -> np.ndarray:
    """The first ten seconds at 16 kHz, as S3Gen's side hears them."""
    return resample_sinc(clip[:240_000], 24_000, 16_000)


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    """The first and last rows of what the reference computes from the clip."""
    with np.load(HERE / "goldens" / "frontends.npz") as file:
        stem = f"{CLIP.stem}."
        return {n.removeprefix(stem): file[n] for n in file.files if n.startswith(stem)}


def noise(count: int, *, seed: int = 0, scale: float = 0.1) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(count) * scale).astype(np.float32)


def edges(array: np.ndarray, rows: int) -> np.ndarray:
    return np.concatenate([array[: rows // 2], array[-(rows // 2) :]])


# Against the reference. A symmetric window, zeros where the ends are mirrored, a frame too many, a
# missing or an extra logarithm or scale: each moves these by far more than the bounds.


def test_prompt_mel_is_the_references(clip: np.ndarray, recorded: dict[str, np.ndarray]) -> None:
    mel = prompt_mel(clip[:240_000])
    assert mel.shape == (500, 80) and mel.dtype == np.float32
    assert max_abs(edges(mel, 50), recorded["prompt_mel"]) < 1e-4


def test_s3_log_mel_is_the_references(
    prompt: np.ndarray, voice: np.ndarray, recorded: dict[str, np.ndarray]
) -> None:
    mel = s3_log_mel(prompt)
    assert mel.shape == (1000, 128) and mel.dtype == np.float32
    assert max_abs(edges(mel, 50), recorded["s3_log_mel_prompt"]) < 2e-5
    mel = s3_log_mel(voice[:240_000])
    assert mel.shape == (1500, 128)
    assert max_abs(edges(mel, 50), recorded["s3_log_mel_voice"]) < 5e-5


def test_kaldi_fbank_is_the_references(prompt: np.ndarray, recorded: dict[str, np.ndarray]) -> None:
    mel = kaldi_fbank(prompt)
    assert mel.shape == (998, 80) and mel.dtype == np.float32
    assert max_abs(edges(mel, 50), recorded["kaldi_fbank"]) < 5e-5


def test_voice_mel_is_the_references(voice: np.ndarray, recorded: dict[str, np.ndarray]) -> None:
    mel = voice_mel(voice)
    assert mel.shape == (1485, 40) and mel.dtype == np.float32
    assert max_abs(edges(mel, 50), recorded["voice_mel"]) < 1e-6


def test_both_resamplers_are_the_references(
    voice: np.ndarray, prompt: np.ndarray, recorded: dict[str, np.ndarray]
) -> None:
    np.testing.assert_array_equal(edges(voice, 3000), recorded["samples_16k"])
    assert max_abs(edges(prompt, 3000), recorded["prompt_16k"]) < 1e-7
    assert max_abs(voice[:160_000], prompt) > 1e-4, "they are two different filters"


# Properties that hold without the reference.


def test_hann_windows_are_periodic_or_symmetric() -> None:
    periodic, symmetric = hann(8), hann(8, periodic=False)
    np.testing.assert_allclose(periodic[1:], periodic[:0:-1])
    assert periodic[0] == 0 and periodic[-1] > 0.1 and periodic[4] == 1
    np.testing.assert_allclose(symmetric, symmetric[::-1], atol=1e-15)
    assert symmetric[0] == 0 and abs(symmetric[-1]) < 1e-15


def test_padding_mirrors_without_repeating_the_end() -> None:
    np.testing.assert_array_equal(reflect_pad(np.arange(5), 2), [2, 1, 0, 1, 2, 3, 4, 3, 2])


def test_frames_are_whole() -> None:
    assert frame(np.arange(10), 4, 3).tolist() == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
    assert frame(np.arange(12), 4, 3).shape == (3, 4)
    assert frame(np.arange(3), 4, 3).shape == (0, 4)


def test_power_of_a_cosine() -> None:
    wave = np.cos(2 * np.pi * 50 * np.arange(400) / 400)[None]
    power = power_spectrum(wave, np.ones(400), fft=400)
    assert power.shape == (1, 201)
    np.testing.assert_allclose(power[0, 50], 200**2)
    assert power_spectrum(wave, np.ones(400), fft=512).shape == (1, 257)


@pytest.mark.parametrize("count", [16_000, 16_001, 16_159, 16_160, 80_123])
def test_frame_counts(count: int) -> None:
    samples = noise(count)
    assert prompt_mel(samples).shape == (count // 480, 80)
    assert s3_log_mel(samples).shape == (count // 160, 128)
    assert kaldi_fbank(samples).shape == ((count - 400) // 160 + 1, 80)
    assert voice_mel(samples).shape == (count // 160 + 1, 40)


def test_voice_mel_is_power_without_logarithm() -> None:
    samples = noise(16_000)
    np.testing.assert_allclose(voice_mel(2 * samples), 4 * voice_mel(samples), rtol=1e-5)
    assert voice_mel(samples).min() >= 0


def test_voice_mel_leaves_out_silent_ends() -> None:
    speech = noise(32_000)
    padded = np.concatenate([np.zeros(16_000, np.float32), speech, np.zeros(16_000, np.float32)])
    kept = trim_silence(padded)
    # To the frames of 2048 samples that still touch the sound.
    assert 32_000 <= len(kept) <= 32_000 + 2 * 1024 + 512
    assert voice_mel(padded).shape[0] == len(kept) // 160 + 1


def test_ends_are_silent_under_20_decibels() -> None:
    # The second half lies just over or just under the threshold.
    for level, kept in ((-19, 40 * 512), (-21, 20 * 512 + 1024)):
        quiet = np.full(20 * 512, 10 ** (level / 20), np.float32)
        samples = np.concatenate([np.ones(20 * 512, np.float32), quiet])
        assert len(samples) == 40 * 512 and abs(len(trim_silence(samples)) - kept) <= 1024


def test_s3_log_mel_floor_is_eight_decades_under_the_loudest() -> None:
    samples = np.concatenate([noise(16_000), np.zeros(16_000, np.float32)])
    mel = s3_log_mel(samples)
    np.testing.assert_allclose(mel.min(), mel.max() - 2, atol=1e-6)


def test_kaldi_fbank_does_not_scale_samples() -> None:
    # Nothing reaches the floor of 1.19e-7 at this level; scaled to 16 bits all would.
    assert np.abs(kaldi_fbank(noise(16_000, scale=1e-6))).max() < 1e-6
    assert np.abs(kaldi_fbank(noise(16_000, scale=1e-2))).max() > 1


def test_kaldi_fbank_has_no_offset_and_no_mean() -> None:
    samples = noise(16_000)
    mel = kaldi_fbank(samples)
    assert np.abs(mel.mean(axis=0)).max() < 1e-6
    assert max_abs(kaldi_fbank(samples.astype(np.float64) + 0.25), mel) < 1e-5


def test_kaldi_fbank_has_no_dither() -> None:
    samples = noise(16_000)
    np.testing.assert_array_equal(kaldi_fbank(samples), kaldi_fbank(samples))


@pytest.mark.parametrize(
    ("rate", "fft", "mels", "high"),
    [(24_000, 1920, 80, 8000.0), (16_000, 400, 128, 8000.0), (16_000, 400, 40, 8000.0)],
)
def test_slaney_filters_are_librosas(
    rate: int, fft: int, mels: int, high: float, librosa: ModuleType
) -> None:
    expected = librosa.filters.mel(sr=rate, n_fft=fft, n_mels=mels, fmin=0, fmax=high)
    np.testing.assert_array_equal(slaney_filters(rate, fft, mels, high=high), expected)


def test_htk_filters() -> None:
    filters = htk_filters(16_000, 512, 80, low=20.0)
    assert filters.shape == (80, 257) and filters.dtype == np.float32
    assert filters.min() == 0 and 0.5 < filters.max() <= 1
    assert not filters[:, -1].any(), "Kaldi leaves the Nyquist bin out"
    first, last = filters[0].argmax(), filters[-1].argmax()
    np.testing.assert_allclose(filters.sum(axis=0)[first + 1 : last], 1, atol=1e-4)


@pytest.mark.parametrize("rates", [(24_000, 16_000), (44_100, 16_000), (16_000, 24_000)])
def test_sinc_keeps_a_tone(rates: tuple[int, int]) -> None:
    source, target = rates
    length = source // 2 + 7
    wave = np.sin(2 * np.pi * 440 * np.arange(length) / source).astype(np.float32)
    resampled = resample_sinc(wave, source, target)
    assert resampled.shape == (-(-target * length // source),)
    assert resampled.dtype == np.float32
    expected = np.sin(2 * np.pi * 440 * np.arange(len(resampled)) / target)
    assert max_abs(resampled[200:-200], expected[200:-200]) < 2e-3


def test_sinc_removes_what_would_alias() -> None:
    wave = np.sin(2 * np.pi * 11_000 * np.arange(24_000) / 24_000).astype(np.float32)
    # Six zero crossings reach -48 dB there; without the low-pass it would fold down at full level.
    assert np.abs(resample_sinc(wave, 24_000, 16_000)[200:-200]).max() < 5e-3


@pytest.mark.parametrize("rates", [(24_000, 16_000), (44_100, 24_000), (8000, 24_000)])
def test_soxr_is_librosas(rates: tuple[int, int], librosa: ModuleType) -> None:
    samples = noise(12_345)
    expected = librosa.resample(samples, orig_sr=rates[0], target_sr=rates[1])
    np.testing.assert_array_equal(resample_soxr(samples, *rates), expected)
    assert resample_soxr(samples, 16_000, 16_000) is samples


def test_loudness_reaches_the_target() -> None:
    import pyloudnorm

    loud = normalize_loudness(noise(48_000), 24_000, target=-27.0)
    assert loud.dtype == np.float32
    assert abs(pyloudnorm.Meter(24_000).integrated_loudness(loud) + 27) < 1e-3


@pytest.mark.parametrize("samples", [np.zeros(48_000, np.float32), noise(9599)])
def test_a_clip_without_loudness_is_unchanged(samples: np.ndarray) -> None:
    assert normalize_loudness(samples, 24_000, target=-27.0) is samples


def test_loading_is_librosas(tmp_path: Path, librosa: ModuleType) -> None:
    stereo = tmp_path / "stereo.wav"
    soundfile.write(stereo, noise(88_200).reshape(-1, 2), 44_100)
    for path in (CLIP, stereo):
        expected, _ = librosa.load(path, sr=24_000)
        np.testing.assert_array_equal(load_audio(path, sample_rate=24_000), expected)


def bad_file(name: str, folder: Path) -> Path:
    path = folder / f"{name}.wav"
    broken = noise(24_000)
    broken[100] = np.inf if name == "infinite" else np.nan
    makers: dict[str, Callable[[], object]] = {
        "missing": lambda: None,
        "folder": path.mkdir,
        "text": lambda: path.write_text("this is no audio"),
        "no bytes": path.touch,
        "no samples": lambda: soundfile.write(path, np.zeros(0), 24_000),
        "nan": lambda: soundfile.write(path, broken, 24_000, "FLOAT"),
        "infinite": lambda: soundfile.write(path, broken, 24_000, "FLOAT"),
        "silent": lambda: soundfile.write(path, noise(24_000, scale=1e-6), 24_000, "FLOAT"),
    }
    makers[name]()
    return path


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("missing", "does not exist"),
        ("folder", "is a folder"),
        ("text", "cannot be read as audio"),
        ("no bytes", "cannot be read as audio"),
        ("no samples", "holds no samples"),
        ("nan", "NaN or infinite"),
        ("infinite", "NaN or infinite"),
        ("silent", "is silent"),
    ],
)
def test_bad_files_are_named_in_one_line(name: str, fact: str, tmp_path: Path) -> None:
    path = bad_file(name, tmp_path)
    with pytest.raises(AudioError) as caught:
        load_audio(path, sample_rate=24_000)
    message = str(caught.value)
    assert fact in message and str(path) in message and "; " in message and "\n" not in message


@pytest.mark.parametrize(
    "samples", [np.zeros((2, 3, 4), np.float32), np.ones(10, np.int16), np.float32(1)]
)
def test_other_arrays_are_refused(samples: np.ndarray) -> None:
    with pytest.raises(AudioError, match="give floats"):
        check_samples(np.asarray(samples), "the clip")


def test_arrays_are_mixed_down() -> None:
    stereo = noise(2000).reshape(-1, 2).astype(np.float64)
    mono = check_samples(stereo, "the clip")
    assert mono.dtype == np.float32
    np.testing.assert_allclose(mono, stereo.mean(axis=1), atol=1e-8)


@pytest.mark.parametrize("suffix", [".wav", ".WAV", ".flac", ".mp3", ".ogg", ".opus"])
def test_written_files_can_be_read(suffix: str, tmp_path: Path) -> None:
    tone = (0.3 * np.sin(2 * np.pi * 300 * np.arange(72_000) / 24_000)).astype(np.float32)
    path = write_audio(tmp_path / f"out{suffix}", tone, 24_000)
    assert [file.name for file in tmp_path.iterdir()] == [f"out{suffix}"]
    info = soundfile.info(path)
    assert info.samplerate == 24_000 and info.channels == 1
    if suffix.lower() in (".wav", ".flac"):
        assert info.subtype == "PCM_16"
        assert max_abs(load_audio(path, sample_rate=24_000), tone) < 1 / 32_768


@pytest.mark.parametrize("suffix", [".aac", ".m4a", ".m4b", ".M4A"])
def test_aac_can_be_written_and_read(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("av")
    tone = (0.3 * np.sin(2 * np.pi * 300 * np.arange(151_234) / 24_000)).astype(np.float32)
    path = write_blocks(tmp_path / f"out{suffix}", [tone[:100], tone[100:]], 24_000)
    assert [file.name for file in tmp_path.iterdir()] == [f"out{suffix}"]
    read = load_audio(path, sample_rate=24_000)
    assert abs(len(read) - len(tone)) < 4096
    spectrum = np.abs(np.fft.rfft(read[:120_000] * np.hanning(120_000)))
    assert abs(np.argmax(spectrum) / 5 - 300) < 1
    assert encode_audio(tone, 24_000, suffix.lower()[1:])


def test_aac_without_pyav_names_the_extra_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ExtraError, match=r"mlx-audio-turbo\[codecs\]"):
        check_writable(tmp_path / "out.m4a")


def test_writing_replaces_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_audio(tmp_path / "out.wav", noise(2400), 24_000)
    before = path.read_bytes()

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(soundfile.SoundFile, "write", full)
    with pytest.raises(AudioError, match="No space left"):
        write_audio(path, noise(4800), 24_000)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("place", "fact"),
    [("out.txt", "audio file"), ("out", "audio file"), ("no/out.wav", "no folder"), ("", "file")],
)
def test_unwritable_places_are_refused(place: str, fact: str, tmp_path: Path) -> None:
    for attempt in (check_writable, lambda path: write_audio(path, noise(240), 24_000)):
        with pytest.raises(AudioError, match=fact):
            attempt(tmp_path / place)
    assert list(tmp_path.iterdir()) == []


def test_folders_without_write_permission_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(AudioError, match=r"cannot be written \(Permission denied\)"):
        check_writable(tmp_path / "out.wav")
