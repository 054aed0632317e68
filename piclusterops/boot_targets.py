"""What a node should boot with, from the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from piclusterops import config_txt
from piclusterops.settings import Cluster, Node

Pages = Literal["4k", "16k", "keep"]


@dataclass(frozen=True)
class BootTarget:
    """What a node should boot with. The default is what K3s can't do without.

    Attributes:
        memory_cgroup: the kernel has the memory controller.
        pages: size of the kernel's pages; `keep` is whatever it is.
        swap_off: there is no swap.
        watchdog: the hardware watchdog is on, and systemd feeds it.
        pcie: the PCIe connector of a Raspberry Pi 5: its generation, or `keep`.
        eeprom: (key, value) pairs of the bootloader's configuration.
    """

    memory_cgroup: bool = True
    pages: Pages = "keep"
    swap_off: bool = False
    watchdog: bool = False
    pcie: Literal["keep", "on", "gen3"] = "keep"
    eeprom: tuple[tuple[str, str], ...] = ()

    @property
    def parameters(self) -> tuple[tuple[str, str], ...]:
        """Parameters of the board's device tree."""
        found = {
            ("watchdog", "on"): self.watchdog,
            ("pciex1", "on"): self.pcie != "keep",
            ("pciex1_gen", "3"): self.pcie == "gen3",
        }
        return tuple(parameter for parameter, wanted in found.items() if wanted)

    def page_size(self, planned: str, model: str) -> int | None:
        """The page size, in bytes, that a `config.txt` gives and that is wanted; None: no matter."""
        sizes = {"4k": (config_txt.KERNEL_4K, 4096), "16k": (config_txt.KERNEL_16K, 16384)}
        if self.pages == "keep":
            return None
        image, size = sizes[self.pages]
        kernel = config_txt.effective(planned, "kernel", model, config_txt.default_kernel(model))
        return size if kernel == {image} else None


def boot_targets(cluster: Cluster) -> dict[str, BootTarget]:
    """What each node should boot with, by its name."""
    return {node.name: _target(cluster, node) for node in cluster.nodes}


def _target(cluster: Cluster, node: Node) -> BootTarget:
    settings, own = cluster.settings, node.settings
    eeprom = {
        "BOOT_ORDER": own.eeprom_boot_order,
        "PCIE_PROBE": own.eeprom_pcie_probe,
        "POWER_OFF_ON_HALT": own.eeprom_power_off_on_halt,
    }
    return BootTarget(
        pages=settings.page_size,
        swap_off=settings.swap == "off",
        watchdog=settings.watchdog,
        pcie=own.pcie,
        eeprom=tuple((key, _text(value)) for key, value in eeprom.items() if value is not None),
    )


def _text(value: str | bool) -> str:
    return value if isinstance(value, str) else str(int(value))
