"""What a node lacks of what it should boot with, and what its config.txt should be."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

from piclusterops.boot_targets import BootTarget, boot_targets
from piclusterops.config_txt import BEGIN, END
from piclusterops.facts import boot
from piclusterops.facts.boot import BootFile, ConfigFault
from piclusterops.facts.snapshot import Snapshot
from piclusterops.validation import HostData, cluster_from_hosts

PI_5 = "Raspberry Pi 5 Model B Rev 1.0"
PATH = "/boot/firmware/config.txt"
BOTH = ("kernel8.img", "kernel_2712.img")
FOUR = BootTarget(memory_cgroup=False, pages="4k")
SIXTEEN = BootTarget(memory_cgroup=False, pages="16k")
KEEP = BootTarget(memory_cgroup=False)
OURS = f"{BEGIN}\n[all]\nkernel=kernel8.img\n{END}\n"


def snapshot(config: str = "", pages: int = 16384, images: tuple[str, ...] = BOTH, **probes: list[str]) -> Snapshot:
    """A Raspberry Pi 5, as flashed unless said otherwise."""
    found = {
        "model": [PI_5],
        "config_txt": [PATH, b64encode(config.encode()).decode()],
        "page_size": [str(pages)],
        "kernels": [f"{image} 9000000" for image in images],
        "cgroup_controllers": ["cpuset cpu io memory pids"],
    }
    return Snapshot(probes={**found, **probes})


def planned(config: str, target: BootTarget, **kwargs: object) -> str | None:
    file = boot.planned_config(snapshot(config, **kwargs), target)  # type: ignore[arg-type]
    return file.text if file else None


def lacks(config: str, target: BootTarget, **kwargs: object) -> list[str]:
    return [lack.purpose for lack in boot.differences(snapshot(config, **kwargs), target)]  # type: ignore[arg-type]


def test_a_pi_5_as_flashed_gets_4_kib_pages_and_a_reboot() -> None:
    assert planned("arm_64bit=1\n", FOUR) == f"arm_64bit=1\n{OURS}"
    assert lacks("arm_64bit=1\n", FOUR) == ["run with pages of 4 KiB"]


def test_it_needs_no_reboot_once_it_has_them() -> None:
    assert lacks(OURS, FOUR, pages=4096) == []


@pytest.mark.parametrize("config", ["", "kernel=kernel_2712.img\n", OURS])
def test_pages_of_4_kib_without_the_image_are_left_alone_and_it_is_never_named(config: str) -> None:
    """As in a container, or with a distribution's own kernel."""
    text = planned(config, FOUR, pages=4096, images=())
    assert text is not None and "kernel8.img" not in text
    assert lacks(config, FOUR, pages=4096, images=()) == []


def test_pages_of_16_kib_without_the_image_are_a_fault() -> None:
    with pytest.raises(ConfigFault, match=r"no kernel8\.img") as caught:
        planned("", FOUR, images=("kernel_2712.img",))
    assert caught.value.following == "sudo apt-get install linux-image-rpi-v8"
    assert lacks("", FOUR, images=("kernel_2712.img",)) == []


def test_the_image_is_looked_for_where_os_prefix_leads() -> None:
    with pytest.raises(ConfigFault, match=r"no trial/kernel8\.img"):
        planned("os_prefix=trial/\n", FOUR)
    assert planned("os_prefix=trial/\n", FOUR, images=(*BOTH, "trial/kernel8.img")) == f"os_prefix=trial/\n{OURS}"


def test_an_initramfs_of_the_other_kernel_is_a_fault() -> None:
    with pytest.raises(ConfigFault, match="initramfs_2712"):
        planned("initramfs initramfs_2712 followkernel\n", FOUR)
    assert planned("kernel=kernel8.img\ninitramfs initramfs8 followkernel\n", FOUR) is not None


def test_16_kib_takes_our_line_away_and_reboots_when_the_firmware_then_takes_its_own_kernel() -> None:
    assert planned(f"a=1\n{OURS}", SIXTEEN, pages=4096) == "a=1\n"
    assert lacks(f"a=1\n{OURS}", SIXTEEN, pages=4096) == ["run with pages of 16 KiB"]
    assert lacks("kernel=kernel8.img\n", SIXTEEN, pages=4096) == [], "somebody wants that kernel"
    assert lacks(OURS, SIXTEEN, pages=4096, images=("kernel8.img",)) == []


@pytest.mark.parametrize("config", ["", OURS, "kernel=x.img\n"])
def test_keep_leaves_the_kernel_as_it_is(config: str) -> None:
    assert planned(config, KEEP) == config
    assert lacks(config, KEEP) == []


def test_a_raspberry_pi_4_is_left_alone() -> None:
    assert planned("", FOUR, pages=4096, model=["Raspberry Pi 4 Model B Rev 1.4"]) == ""


@pytest.mark.parametrize("target", [FOUR, SIXTEEN, BootTarget(memory_cgroup=False, watchdog=True, pcie="gen3")])
def test_another_computer_is_left_alone(target: BootTarget) -> None:
    other = snapshot(pages=65536, model=[], watchdog=["driver"], pcie=["disabled"])
    assert boot.planned_config(other, target) is None
    assert boot.differences(other, target) == []


def test_without_config_txt_only_4_kib_pages_that_run_already_will_do() -> None:
    assert boot.planned_config(snapshot(pages=4096, config_txt=[]), FOUR) is None
    with pytest.raises(ConfigFault, match=r"no config\.txt"):
        boot.planned_config(snapshot(config_txt=[]), FOUR)


def test_all_that_is_lacking_takes_one_reboot() -> None:
    target = BootTarget(pages="4k", swap_off=True, watchdog=True, eeprom=(("BOOT_ORDER", "0xf416"),))
    bare = snapshot(
        cgroup_controllers=["cpuset cpu io pids"],
        swaps=["/dev/zram0 partition 1 0 100"],
        watchdog=["driver", "RuntimeWatchdogUSec=0"],
        eeprom=["BOOT_ORDER=0xf41"],
    )
    assert [lack.purpose for lack in boot.differences(bare, target)] == [
        "enable the memory cgroup",
        "be without swap",
        "run with pages of 4 KiB",
        "get its watchdog",
        "update its EEPROM",
    ]


@pytest.mark.parametrize("answers", [["device", "driver"], ["device"], []])
def test_a_watchdog_that_is_there_or_has_no_driver_takes_no_reboot(answers: list[str]) -> None:
    assert lacks("", BootTarget(memory_cgroup=False, watchdog=True), watchdog=answers) == []


def test_targets_come_from_the_settings() -> None:
    shared = {
        "lan_cidr": "10.0.0.0/24",
        "platform_profile": "none",
        "page_size": "16k",
        "swap": "keep",
        "watchdog": False,
    }
    own = {"pcie": "gen3", "eeprom_boot_order": "0xf416", "eeprom_pcie_probe": True, "eeprom_power_off_on_halt": False}
    cluster = cluster_from_hosts(
        [
            HostData("pi-1", ("master",), {"ssh_hostname": "10.0.0.1", **shared}),
            HostData("pi-2", ("worker",), {"ssh_hostname": "10.0.0.2", **shared, **own}),
        ]
    )
    eeprom = (("BOOT_ORDER", "0xf416"), ("PCIE_PROBE", "1"), ("POWER_OFF_ON_HALT", "0"))
    assert boot_targets(cluster) == {
        "pi-1": BootTarget(pages="16k"),
        "pi-2": BootTarget(pages="16k", pcie="gen3", eeprom=eeprom),
    }
    assert boot_targets(cluster)["pi-2"].parameters == (("pciex1", "on"), ("pciex1_gen", "3"))


def test_the_defaults_are_safe() -> None:
    cluster = cluster_from_hosts(
        [
            HostData(
                "pi-1", ("master",), {"ssh_hostname": "10.0.0.1", "lan_cidr": "10.0.0.0/24", "platform_profile": "none"}
            )
        ]
    )
    assert boot_targets(cluster) == {"pi-1": BootTarget(pages="4k", swap_off=True, watchdog=True)}


def test_the_drop_ins_sort_after_those_of_the_distribution() -> None:
    assert Path(boot.RPI_SWAP_FILE).name > "80-local.conf"
    assert boot.boot_file(snapshot("x"), "config_txt") == BootFile(PATH, "x")
