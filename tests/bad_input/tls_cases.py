"""What users do wrong with TLS; see cases.py."""

from bad_input.case import Case

SERVE = "serve --bundle bundle --listen"
COLLECT = "collect --store store --listen"

TLS = [
    Case("others reach it, without TLS", f"{SERVE} 0.0.0.0:0", "Add --tls DIR, or --insecure"),
    Case("others reach it, without TLS", f"{COLLECT} [::]:0", "Add --tls DIR, or --insecure"),
    Case("others read metrics", f"{SERVE} 127.0.0.1:0 --metrics 0.0.0.0:0", "Take 127.0.0.1, or"),
    Case("no certificates", f"{SERVE} 127.0.0.1:0 --tls empty", "empty holds no tls.crt"),
    Case("no certificates", f"{COLLECT} 127.0.0.1:0 --tls empty", "empty holds no tls.crt"),
    Case("no certificates", "stream a.png --server {server} --tls empty", "holds no ca.crt"),
    Case(
        "certificates for no collector",
        f"{SERVE} 127.0.0.1:0 --collector-tls empty",
        "Add --collector HOST:PORT",
    ),
]
