"""eeprom_boot_order = "f416"
why: must be hexadecimal, 0x and at most 8 of 0-9 and a-f: 0xf416
fix: eeprom_boot_order = "0xf416", for example
"""

master = [("pi-master", {"ssh_hostname": "192.168.0.120"})]
worker = [
    (
        "pi-worker-1",
        {"ssh_hostname": "192.168.0.121", "eeprom_boot_order": "f416"},
    )
]
cluster = (
    ["pi-master", "pi-worker-1"],
    {"lan_cidr": "192.168.0.0/24"},
)
