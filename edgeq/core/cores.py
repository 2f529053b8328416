"""Names of ARM's cores, from the implementer and part that the agent sends (``0x41/0xd08``)."""

# The numbers of the MIDR register: Linux, arch/arm64/include/asm/cputype.h, and ARM's manuals.
_NAMES = {
    "0x41/0xb76": "ARM1176",
    "0x41/0xc07": "Cortex-A7",
    "0x41/0xc08": "Cortex-A8",
    "0x41/0xc09": "Cortex-A9",
    "0x41/0xc0f": "Cortex-A15",
    "0x41/0xd03": "Cortex-A53",
    "0x41/0xd04": "Cortex-A35",
    "0x41/0xd05": "Cortex-A55",
    "0x41/0xd07": "Cortex-A57",
    "0x41/0xd08": "Cortex-A72",
    "0x41/0xd09": "Cortex-A73",
    "0x41/0xd0a": "Cortex-A75",
    "0x41/0xd0b": "Cortex-A76",
    "0x41/0xd0c": "Neoverse-N1",
    "0x41/0xd0d": "Cortex-A77",
    "0x41/0xd40": "Neoverse-V1",
    "0x41/0xd41": "Cortex-A78",
    "0x41/0xd42": "Cortex-A78AE",
    "0x41/0xd44": "Cortex-X1",
    "0x41/0xd46": "Cortex-A510",
    "0x41/0xd47": "Cortex-A710",
    "0x41/0xd48": "Cortex-X2",
    "0x41/0xd4d": "Cortex-A715",
    "0x41/0xd4e": "Cortex-X3",
    "0x41/0xd80": "Cortex-A520",
    "0x41/0xd81": "Cortex-A720",
    "0x41/0xd82": "Cortex-X4",
    "0x41/0xd83": "Neoverse-V3AE",
    "0x41/0xd85": "Cortex-X925",
    "0x41/0xd87": "Cortex-A725",
    "0x4e/0x003": "Denver 2",
    "0x4e/0x004": "Carmel",
    "0x51/0x800": "Kryo 2xx Gold",
    "0x51/0x801": "Kryo 2xx Silver",
    "0x51/0x802": "Kryo 3xx Gold",
    "0x51/0x803": "Kryo 3xx Silver",
    "0x51/0x804": "Kryo 4xx Gold",
    "0x51/0x805": "Kryo 4xx Silver",
}


def name(sent: str) -> str | None:
    """In words; what is not known by name as it was sent. None for nothing."""
    parts = [part.strip() for part in sent.split("+")]
    return " + ".join(_NAMES.get(part, part) for part in parts if part) or None
