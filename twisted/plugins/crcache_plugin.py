"""What twistd finds: the name, and the module that does the work."""

from twisted.application.service import ServiceMaker

crcache = ServiceMaker(
    "crcache",
    "crcache.tap",
    "A pull-through cache of container registries.",
    "crcache",
)
