#!/bin/bash
# Whether NiFi's management server says that it is well. It listens on the loopback only, and NiFi's own port answers
# no probe of the kubelet, which would ask for another name than that of the certificate.
set -u
exec 3<>"/dev/tcp/127.0.0.1/${NIFI_MANAGEMENT_PORT:-52020}" || exit 1
printf 'GET /health HTTP/1.0\r\n\r\n' >&3
read -r -t 8 _ status _ <&3
echo "health: ${status:-no answer}"
[ "${status:-}" = 200 ]
