"""What a machine is, from the text its kernel gives, and what is said of a file that was made for another one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_tl_runtime.machine.cpu import (
    TARGETS,
    cpu_features,
    cpu_name,
    cpu_name_of,
    memory,
    target_of,
    target_warning,
    this_target,
)

XEON = """\
processor	: 0
vendor_id	: GenuineIntel
cpu family	: 6
model		: 143
model name	: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
flags		: fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ss ht \
syscall nx pdpe1gb rdtscp lm pni pclmulqdq ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt aes xsave avx f16c rdrand avx2 \
avx512f avx512dq avx512bw avx512vl avx_vnni avx512_bf16 avx512_vnni avx512_bitalg amx_bf16 avx512_fp16 amx_tile amx_int8
bugs		: spectre_v1 spectre_v2 spec_store_bypass
"""
RYZEN = """\
processor	: 0
vendor_id	: AuthenticAMD
cpu family	: 23
model		: 113
model name	: AMD Ryzen 5 3600 6-Core Processor
stepping	: 0
flags		: fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ht syscall \
nx mmxext fxsr_opt pdpe1gb rdtscp lm constant_tsc rep_good nopl cpuid extd_apicid aperfmperf pni pclmulqdq monitor ssse3 \
fma cx16 sse4_1 sse4_2 movbe popcnt aes xsave avx f16c rdrand lahf_lm svm bmi1 avx2 smep bmi2 rdseed adx clflushopt sha_ni
bugs		: sysret_ss_attrs spectre_v1 spectre_v2 spec_store_bypass retbleed
"""
ALDER_LAKE = RYZEN.replace("AMD Ryzen 5 3600 6-Core Processor", "Intel(R) N100").replace(" sha_ni", " sha_ni avx_vnni")
CELERON = """\
processor	: 0
vendor_id	: GenuineIntel
model name	: Intel(R) Celeron(R) CPU  J1900  @ 1.99GHz
flags		: fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush dts acpi mmx fxsr sse sse2 \
ss ht tm pbe syscall nx rdtscp lm constant_tsc pni pclmulqdq ssse3 cx16 sse4_1 sse4_2 movbe popcnt rdrand lahf_lm
"""
PI_5 = """\
processor	: 0
BogoMIPS	: 108.00
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x4
CPU part	: 0xd0b
CPU revision	: 1

Revision	: c04170
Serial		: 0000000000000000
Model		: Raspberry Pi 5 Model B Rev 1.0
"""
PI_4 = """\
processor	: 0
BogoMIPS	: 108.00
Features	: fp asimd evtstrm crc32 cpuid
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x0
CPU part	: 0xd08
CPU revision	: 3

Revision	: c03111
Model		: Raspberry Pi 4 Model B Rev 1.1
"""
RK3588 = PI_5.replace("0xd0b", "0xd05").split("Revision")[0] + PI_5.replace("processor\t: 0", "processor\t: 4")


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "target"),
    [
        ("x86_64", XEON, "x86-vnni"),
        ("x86_64", ALDER_LAKE, "x86-vnni"),
        ("x86_64", RYZEN, "x86-avx2"),
        ("x86_64", CELERON, "generic"),
        ("aarch64", PI_5, "arm-dotprod"),
        ("aarch64", PI_4, "arm"),
        ("armv7l", PI_4.replace("asimd", "neon"), "generic"),
        ("riscv64", "isa\t\t: rv64imafdc\n", "generic"),
        ("arm64", "", "arm-dotprod"),  # macOS
        ("AMD64", "", "x86-avx2"),  # Windows
        ("aarch64", "", "arm"),
        ("x86_64", "flags\t\t:\n", "x86-avx2"),
        ("", "", "generic"),
    ],
    ids=lambda value: value.split("\n")[0][:20],
)
def test_the_target_is_read_from_the_kernels_text(machine, cpuinfo, target):
    assert target_of(machine, cpuinfo) == target
    assert target in TARGETS


@pytest.mark.parametrize(
    ("cpuinfo", "board", "name"),
    [
        (XEON, "", "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"),
        (CELERON, "", "Intel(R) Celeron(R) CPU J1900 @ 1.99GHz"),
        (PI_5, "", "Cortex-A76, Raspberry Pi 5 Model B Rev 1.0"),
        (PI_4.split("Revision")[0], "Raspberry Pi 4 Model B", "Cortex-A72, Raspberry Pi 4 Model B"),
        (RK3588, "Radxa ROCK 5B", "Cortex-A76, Radxa ROCK 5B"),
        (PI_5.replace("0xd0b", "0xfff"), "x", "ARM part 0x41/0xfff, x"),
        ("", "", ""),
    ],
    ids=["xeon", "two spaces", "pi 5", "pi 4", "big cores name a chip", "unknown part", "nothing"],
)
def test_a_processor_has_the_name_people_know(cpuinfo, board, name):
    assert cpu_name_of(cpuinfo, board) == name


def test_features_are_those_that_matter():
    assert cpu_features(PI_5) == ("NEON", "FP16", "DotProd")
    assert cpu_features(PI_4) == ("NEON",)
    assert {"AVX2", "AVX512-VNNI", "AMX-INT8"} <= set(cpu_features(XEON))
    assert cpu_features("") == ()


def test_this_machine_has_a_target_a_name_and_memory():
    assert this_target() in TARGETS
    assert cpu_name()
    total, available = memory()
    assert 0 <= available <= total


# Made for, here, what the warning must speak of; "" for no warning.
WARNINGS = [
    *((target, target, "") for target in TARGETS),
    *(("x86-avx2", here, "") for here in TARGETS),  # 7-bit weights saturate nowhere
    ("x86-vnni", "x86-avx2", "accuracy"),
    ("x86-vnni", "arm-dotprod", "speed"),
    ("x86-vnni", "arm", "slower"),
    ("x86-vnni", "generic", "accuracy"),
    ("arm-dotprod", "arm", "slower"),
    ("arm-dotprod", "x86-vnni", "speed"),
    ("arm-dotprod", "x86-avx2", "saturate"),
    ("arm", "x86-avx2", "saturate"),
    ("arm", "arm-dotprod", ""),
    ("generic", "x86-avx2", "saturate"),
    ("generic", "x86-vnni", ""),
    ("quantum", "x86-vnni", "neither"),
]


@pytest.mark.parametrize(("made_for", "here", "word"), WARNINGS, ids=lambda value: value or "fits")
def test_a_file_made_for_another_target_is_told(color_spec, made_for, here, word):
    spec = replace(color_spec, precision="int8", export={"target": made_for})
    warning = target_warning(spec, here)
    assert bool(warning) == bool(word)
    assert word in warning
    if word:
        assert f"made for {made_for} and this machine is {here}" in warning
        assert f"--target {here}" in warning
        assert "\n" not in warning


def test_only_int8_files_that_name_a_target_are_judged(color_spec):
    for precision in ("fp32", "fp16"):
        spec = replace(color_spec, precision=precision, export={"target": "x86-vnni"})
        assert target_warning(spec, "x86-avx2") == ""
    assert target_warning(replace(color_spec, precision="int8"), "x86-avx2") == ""
