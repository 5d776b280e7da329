"""From tissues to images: signal equations, contrast agent, diffusion, and what a scanner adds.

Relaxation times at 3 T. Sources of the tables:

* White and grey matter: Wansapura et al., JMRI 1999 (T1 832 and 1331 ms, T2 80 and 110 ms). Water content 0.70 and 0.82 of that of
  fluid: Whittall et al., MRM 1997. Fluid: T1 4.3 s and T2 1.9 s, as measured in the subarachnoid space at 3 T; Spijkerman et al.,
  MAGMA 2018, find T2 shorter there than in the ventricles.
* Tumour: T1 of solid glioma 1.4 to 1.9 s, of the tissue around it 1.3 s (MR fingerprinting, de Blank et al., 2019). T2 of tumour,
  oedema and necrosis, 165, 200 and 270 ms, are typical of reports, which scatter widely.
* Gadobutrol in plasma at 3 T: r1 5.0 per mM and s (Szomolanyi et al., Invest Radiol 2019), r2 7.1 (Rohrer et al., 2005).
  Concentrations are those that shorten T1 about as measured in glioblastoma: by 840 ± 210 ms in the enhancing part, 120 in
  oedema, 30 in normal tissue (quantitative T1 maps of 33 patients, Frankfurt 2020).
* Diffusion: glioblastoma 0.96 (Toh et al., AJNR 2008); normal tissue 0.7 to 0.8, fluid 3.0 µm²/ms.
* Prostate: T2 and diffusion of peripheral zone, transition zone and cancer 149, 125, 97 ms and 1.68, 1.48, 1.03 µm²/ms (Simpkin et
  al., Br J Radiol 2013); muscle 1412 and 50 ms (Stanisz et al., MRM 2005). The other numbers are round and typical.

Simplified: one T1 and T2 per tissue; ideal pulses; no magnetisation transfer, flow, motion, distortion or chemical shift; an echo
train counts as its effective echo time.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from anymri.cohorts import phantom_brain as brain
from anymri.cohorts.phantom_shapes import Field, Frame, Number, generator

R1_PER_MM_S, R2_PER_MM_S = 5.0, 7.1
_MAX = 2**15 - 1  # scanners write 16 bits
_RESOLVED_MM = 1.7  # two interpolations of a voxel of 1 mm, to the atlas and within the scanner, widen it to this
_FWHM = 2.355  # of a Gaussian, in standard deviations

GLAND, TRANSITION, CANCER, MUSCLE, FAT, BONE, AIR = "peripheral zone", "transition zone", "cancer", "muscle", "fat", "bone", "air"


@dataclass(frozen=True)
class Tissue:
    """What a tissue is to a scanner.

    Attributes:
        t1_ms: Longitudinal relaxation time.
        t2_ms: Transverse relaxation time.
        density: Protons, relative to water.
        diffusion: Apparent diffusion coefficient, µm²/ms.
        gadolinium_mM: Concentration of contrast agent after injection.
        fat: Its protons are those of fat, which diffusion imaging suppresses.
    """

    t1_ms: Number
    t2_ms: Number
    density: Number
    diffusion: Number
    gadolinium_mM: Number = 0.0
    fat: bool = False


TISSUES = {
    brain.WHITE: Tissue(832, 79.6, 0.70, 0.72, 0.01),
    brain.GREY: Tissue(1331, 110, 0.82, 0.83, 0.015),
    brain.FLUID: Tissue(4300, 1900, 1.0, 3.0),
    brain.CHOROID: Tissue(1500, 150, 0.9, 1.6, 0.25),
    brain.BLOOD: Tissue(1650, 60, 0.85, 1.5, 0.8),
    brain.DURA: Tissue(1000, 45, 0.65, 0.8, 0.4),
    brain.EDEMA: Tissue(1450, 200, 0.86, 1.4, 0.014),
    brain.NECROSIS: Tissue(1950, 270, 0.92, 1.9, 0.02),
    brain.TUMOUR: Tissue(1450, 165, 0.85, 0.96, 0.03),
    brain.ENHANCING: Tissue(1450, 165, 0.85, 0.96, 0.27),
    GLAND: Tissue(1600, 149, 0.9, 1.68, 0.05),
    TRANSITION: Tissue(1400, 125, 0.88, 1.48, 0.08),
    CANCER: Tissue(1400, 97, 0.86, 1.03, 0.2),
    MUSCLE: Tissue(1412, 50, 0.78, 1.5, 0.04),
    FAT: Tissue(370, 130, 0.9, 0.3, fat=True),
    BONE: Tissue(500, 80, 0.35, 0.3, fat=True),
    AIR: Tissue(1000, 50, 0.0, 0.0),
}


@dataclass(frozen=True)
class Sequence:
    """How one image is taken.

    Attributes:
        repetition_ms: TR.
        echo_ms: TE, the effective one of an echo train.
        inversion_ms: TI; None without inversion.
        contrast: After injection of contrast agent.
        b_ms_um2: Diffusion weighting, ms/µm² (1 is 1000 s/mm²).
        maps_diffusion: The image is the diffusion coefficient itself.
        slice_mm: Thickness of its slices.
        snr: Mean signal over the standard deviation of the noise.
    """

    repetition_ms: Number
    echo_ms: Number
    inversion_ms: Number | None = None
    contrast: bool = False
    b_ms_um2: Number = 0.0
    maps_diffusion: bool = False
    slice_mm: Number = 1.0
    snr: Number = 30.0


@dataclass(frozen=True, eq=False)
class Scene:
    """What lies in front of the scanner.

    Attributes:
        frame: The whole grid.
        box: The part of it that is filled.
        inside: Voxels of the box that are kept, flat; elsewhere the image is 0.
        fractions: Tissue → share of each voxel inside.
        surround: Tissue beyond what is kept.
        levels: Reference of each voxel inside: 0, or the depth of the innermost region.
    """

    frame: Frame
    box: tuple[slice, slice, slice]
    inside: np.ndarray
    fractions: dict[str, Field]
    surround: str
    levels: np.ndarray

    def whole(self, values: np.ndarray) -> np.ndarray:
        """Return values of the voxels inside on the whole grid, 0 elsewhere."""
        part = np.zeros(self.inside.size, values.dtype)
        part[self.inside] = values
        image = np.zeros(self.frame.shape, values.dtype)
        shape = tuple(s.stop - s.start for s in self.box)
        image[self.box] = part.reshape(shape)
        return image


def signal(tissue: Tissue, sequence: Sequence) -> float:
    """Return what a tissue gives, relative to all protons of water.

    Spin echo: ρ (1 − e^(−TR/T1)) e^(−TE/T2). After inversion: ρ |1 − 2 e^(−TI/T1) + e^(−TR/T1)| e^(−TE/T2). Contrast agent of
    concentration c adds r c to the rates 1/T1 and 1/T2; diffusion weighting multiplies by e^(−b D). A diffusion map gives D.
    """
    if sequence.maps_diffusion:
        return tissue.diffusion
    agent = tissue.gadolinium_mM if sequence.contrast else 0.0
    rate1 = 1 / tissue.t1_ms + R1_PER_MM_S * agent / 1000
    rate2 = 1 / tissue.t2_ms + R2_PER_MM_S * agent / 1000
    recovered = np.exp(-sequence.repetition_ms * rate1)
    if sequence.inversion_ms is None:
        magnetisation = 1 - recovered
    else:
        magnetisation = abs(1 - 2 * np.exp(-sequence.inversion_ms * rate1) + recovered)
    decay = np.exp(-sequence.echo_ms * rate2 - sequence.b_ms_um2 * tissue.diffusion)
    left = 0.05 if tissue.fat and sequence.b_ms_um2 else 1.0
    return float(tissue.density * left * magnetisation * decay)


def sequence_named(name: str, seed: int) -> Sequence:
    """Return the sequence of a modality as some scanner runs it.

    Names that no scanner knows get one of the usual weightings, always the same for the same name.
    """
    scanner = generator(seed, "scanner")
    volumetric = scanner.random() < 0.5  # T1 before and after injection are taken alike
    rng = generator(seed, "sequence", name)
    jitter = rng.uniform(0.93, 1.07, 3)
    snr = float(rng.uniform(22, 45))
    thick = float(rng.choice((1.0, 2.0, 3.0, 5.0)))
    t1 = Sequence(550, 11) if not volumetric else Sequence(2000, 3, inversion_ms=950)
    t1 = replace(t1, slice_mm=1.0 if volumetric else thick)
    t2 = Sequence(5000, 95, slice_mm=thick)
    flair = Sequence(9000, 115, inversion_ms=2450, slice_mm=thick)
    known = {
        "FLAIR": flair,
        "T1": t1,
        "T1c": replace(t1, contrast=True),
        "T2": t2,
        "T2w": t2,
        "ADC": Sequence(4000, 70, maps_diffusion=True, slice_mm=thick),
        "DWI": Sequence(4000, 70, b_ms_um2=1.4, slice_mm=thick),
    }
    usual = (flair, t1, known["T1c"], t2)
    chosen = known.get(name) or usual[zlib.crc32(name.encode()) % len(usual)]
    inversion = None if chosen.inversion_ms is None else chosen.inversion_ms * float(1 + (jitter[2] - 1) / 3)
    repetition, echo = chosen.repetition_ms * float(jitter[0]), chosen.echo_ms * float(jitter[1])
    return replace(chosen, repetition_ms=repetition, echo_ms=echo, inversion_ms=inversion, snr=snr)


def patient_tissues(seed: int) -> dict[str, Tissue]:
    """Return the tissues of one patient, whose relaxation differs by some per cent and whose enhancement by much."""
    rng = generator(seed, "tissues")
    leak = float(np.clip(rng.lognormal(0, 0.25), 0.65, 1.5))
    found = {}
    for name, tissue in TISSUES.items():
        t1, t2, diffusion = rng.normal(1.0, (0.025, 0.03, 0.04))
        agent = tissue.gadolinium_mM * (leak if name == brain.ENHANCING else 1.0)
        found[name] = replace(
            tissue, t1_ms=tissue.t1_ms * t1, t2_ms=tissue.t2_ms * t2, diffusion=tissue.diffusion * diffusion, gadolinium_mM=agent
        )
    return found


def acquire(scene: Scene, name: str, seed: int) -> np.ndarray:
    """Return the image of a modality on the whole grid: whole numbers as float32, 0 outside what is kept and at least 1 inside."""
    sequence, tissues = sequence_named(name, seed), patient_tissues(seed)
    shape = tuple(s.stop - s.start for s in scene.box)
    seen = np.zeros(int(scene.inside.sum()), np.float32)
    for tissue, share in scene.fractions.items():
        seen += np.float32(signal(tissues[tissue], sequence)) * share
    mean = float(seen.mean())
    image = np.full(scene.inside.size, 0.7 * signal(tissues[scene.surround], sequence), np.float32)
    image[scene.inside] = seen
    image = _blurred(image.reshape(shape), scene.frame, sequence.slice_mm)
    rng = generator(seed, "noise", name)
    if sequence.maps_diffusion:
        values = (image + mean / sequence.snr * _grain(rng, shape)).ravel()[scene.inside] * 1000
    else:
        image *= _bias(generator(seed, "bias", name), shape)
        real = image + mean / sequence.snr * _grain(rng, shape)
        magnitude = np.hypot(real, mean / sequence.snr * _grain(rng, shape))
        values = magnitude.ravel()[scene.inside] * (float(rng.uniform(150, 900)) / mean)
    return scene.whole(np.clip(np.rint(values), 1, _MAX).astype(np.float32))


def _blurred(image: np.ndarray, frame: Frame, slice_mm: Number) -> np.ndarray:
    """Return the image as it is resolved after scanner and interpolation to a common grid; voxels blur by themselves."""
    wanted = (_RESOLVED_MM, _RESOLVED_MM, max(slice_mm, _RESOLVED_MM))
    sigma = [np.sqrt(max(w * w - d * d, 0.0)) / _FWHM / d for w, d in zip(wanted, frame.spacing_mm, strict=True)]
    return ndimage.gaussian_filter(image, sigma, truncate=2.5, mode="nearest")


def _grain(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return noise of standard deviation 1, a little smooth, as interpolation to a common grid leaves it."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    for axis, n in enumerate(shape):
        if n > 1:
            noise = np.float32(0.85) * noise + np.float32(0.527) * np.roll(noise, 1, axis)
    return noise


def _bias(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return the smooth sensitivity of the coils: the exponential of a random polynomial of degree two, about ± 15 %."""
    axes = [np.linspace(-1, 1, n, dtype=np.float32).reshape([-1 if i == a else 1 for i in range(3)]) for a, n in enumerate(shape)]
    linear, square, mixed = rng.normal(0, 0.06, 3), rng.normal(0, 0.06, 3), rng.normal(0, 0.04, 3)
    exponent = sum(np.float32(c) * a for c, a in zip(linear, axes, strict=True))
    exponent = exponent + sum(np.float32(c) * (a * a - np.float32(1 / 3)) for c, a in zip(square, axes, strict=True))
    exponent = exponent + sum(np.float32(c) * axes[i] * axes[(i + 1) % 3] for i, c in enumerate(mixed))
    return np.exp(exponent)
