"""What users do wrong with keys, signatures, zips and releases; see cases.py."""

from bad_input.case import Case

INFER = "infer a.png --bundle"

TRUST = [
    Case("no keys in the folder of keys", f"{INFER} signed --trust empty", "empty holds no *.pub"),
    Case("no folder of keys", f"{INFER} signed --trust no", "no cannot be read"),
    Case("a private key as a trusted one", f"{INFER} signed --trust mine.key", "not a public key"),
    Case("a bundle that nobody signed", f"{INFER} bundle --trust keys", "bundle is not signed"),
    Case("signed by somebody else", f"{INFER} signed-other --trust keys", "expected one of"),
    Case("altered after it was signed", f"{INFER} altered --trust keys", "was altered after key"),
    Case("a signature of junk", f"{INFER} cut-signature --trust keys", "manifest.sig is damaged"),
    Case("an OpenSSF signature of junk", f"{INFER} junk-openssf --trust keys", "model.sig is dam"),
    Case("a revoked key", f"{INFER} signed --trust keys-revoked", "which is revoked"),
    Case("a list of revocations of junk", f"{INFER} signed --trust keys-cut", "has a line 'soon'"),
    Case("a bundle below the floor", f"{INFER} old --trust keys", "takes no older one"),
    Case(
        "the same, served", "serve --bundle old --trust keys --listen 127.0.0.1:0", "no older one"
    ),
    Case("a zip that was cut short", f"{INFER} cut.zip", "not a zip, or cut short"),
    Case("a zip that would write elsewhere", f"{INFER} evil.zip", "expected plain file names"),
    Case("a zip of something else", f"{INFER} other.zip", "holds no manifest.json"),
    Case("no room for temporary files", f"{INFER} bundle.zip", "too large", largest=999),
    Case("no key", "sign bundle --key no.key", "no.key cannot be read"),
    Case("a public key", "sign bundle --key mine.key.pub", "is not a private key"),
    Case("a key of another curve", "sign bundle --key p384.pem", "PEM of the curve P-256"),
    Case("a key with a passphrase", "sign bundle --key locked.pem", "has a passphrase"),
    Case("a second OpenSSF signature", "sign openssf --key no.pem --new-key", "room for one sig"),
    Case("a private key that others may read", "sign bundle --key open.key", "chmod 600 open.key"),
    Case("a key that is there already", "sign bundle --key mine.key --new-key", "no key is over"),
    Case("a folder for the new key that is not there", "sign bundle --key no/k --new-key", "no/k"),
    Case("a bundle that is not there", "sign no --key new.key --new-key", "no is no bundle"),
    Case("a bundle with an altered file", "sign cut-bundle --key mine.key", "was altered"),
    Case("a zip", "sign bundle.zip --key mine.key", "Sign that, then pack it"),
    Case("no key is named", "sign bundle", "Missing option '--key'"),
    Case("no trusted key is named", "verify bundle", "Missing option '--trust'"),
    Case("a bundle that is not there", "verify no --trust keys", "no is no bundle"),
    Case("a bundle that nobody signed", "verify bundle.zip --trust keys", "is not signed"),
    Case("a bundle with an altered file", "verify altered --trust keys", "was altered after key"),
    Case("a bundle that is not there", "pack no --out new.zip", "no is no bundle"),
    Case("a zip that is there already", "pack bundle --out bundle.zip", "nothing is overwritten"),
    Case("a folder that is not there", "pack bundle --out no/new.zip", "cannot be written"),
    Case("a full disk", "pack bundle --out new.zip", "File too large", largest=999),
    Case("a release below zero", "export checkpoint --out new --release -1", "release is -1"),
    Case("a release in words", "export checkpoint --out new --release next", "--release"),
    Case("an expiry in words", "export checkpoint --out new --expires soon", "expected a day such"),
    Case("an expiry that is past", "export checkpoint --out new --expires 2020-01-01", "is past"),
]
