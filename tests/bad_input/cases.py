"""What users do wrong, and what they are told.

One row is one command that is really run, in the folder that ``world.py`` fills. A new verb or
option takes a row here for each slip that is worth a message, then ``make errors``, which runs
them all and writes docs/errors.md with the messages as they came. Names in braces:
``{server}`` is a server that answers, ``{nobody}`` an address where there is none.
"""

from bad_input.annotation_cases import TOOLS
from bad_input.attach_cases import ATTACH
from bad_input.bench_cases import BENCH
from bad_input.build_cases import BUILD, ON_TENSORRT
from bad_input.calibrate_cases import CALIBRATE
from bad_input.case import Case
from bad_input.config_cases import CONFIG
from bad_input.cycle_cases import NEXT_CYCLE
from bad_input.fleet_cases import FLEET
from bad_input.persons_cases import DETECTOR
from bad_input.precision_cases import PRECISION
from bad_input.suspects_cases import SUSPECTS
from bad_input.tls_cases import TLS
from bad_input.training_cases import TRAINING
from bad_input.trust_cases import TRUST
from bad_input.watch_cases import WATCH

SERVE = "serve --bundle bundle --listen 127.0.0.1:0"

GENERAL = [
    Case("an unknown verb", "teach", "No such command 'teach'"),
    Case("an unknown option", "--speed", "No such option: --speed"),
    Case("a shell variable that is not set", "infer a.png --bundle ''", "an argument is empty"),
    Case("the same, with an equals sign", "infer a.png --bundle=", "an argument is empty"),
    Case(
        "an unknown verb below it",
        "annotations teach",
        "see 'misgiving annotations --help'",
    ),
]

INFER = [
    Case("no image", "infer", "Missing argument 'IMAGE'"),
    Case("a folder without images", "infer empty --bundle bundle", "empty holds no image", 1),
    Case("a path without a file", "infer no.png --bundle bundle", "No such file", 1),
    Case("a text file", "infer notes.txt --bundle bundle", "nor a video that OpenCV reads", 1),
    Case("an image that was cut short", "infer cut.png --bundle bundle", "corrupt or cut short", 1),
    Case(
        "one bad image of two: the other is answered",
        "infer no.png a.png --bundle bundle",
        "No such file",
        1,
    ),
    Case("a region of three numbers", "infer a.png --region 1,2,3", "expected X,Y,W,H"),
    Case("a region of no numbers", "infer a.png --region a,b,c,d", "expected X,Y,W,H"),
    Case("a region of NaN", "infer a.png --region nan,0,9,9", "expected finite numbers"),
    Case("a region turned around", "infer a.png --region 0,0,-9,9", "width and height above 0"),
    Case(
        "a region beside the image",
        "infer a.png --bundle bundle --region 900,900,9,9",
        "outside the image of 42 × 56 px",
        1,
    ),
    Case("a threshold of NaN", "infer a.png --bundle bundle --threshold nan", "threshold is nan"),
    Case(
        "a threshold that the bundle does not have",
        "infer a.png --bundle bundle --threshold miss_rate=0.1",
        "bright-spots's own: likely, flag_rate=0.1, miss_rate=0.2",
    ),
    Case("a device", "infer a.png --bundle bundle --device gpu", "expected one of cpu, cuda"),
    Case("a GPU that is not there", "infer a.png --bundle bundle --device cuda", "was asked for"),
    Case(
        "a negative number of threads", "infer a.png --threads -1", "see 'misgiving infer --help'"
    ),
    Case("threads in words", "infer a.png --threads many", "see 'misgiving infer --help'"),
    Case("a bundle that is not there", "infer a.png --bundle no", "no is no bundle"),
    Case("an empty folder as a bundle", "infer a.png --bundle empty", "empty is no bundle"),
    Case("a file as a bundle", "infer a.png --bundle a.png", "a.png is no bundle: not a zip"),
    Case("a checkpoint as a bundle", "infer a.png --bundle checkpoint", "checkpoint is no bundle"),
    Case("a bundle with an altered file", "infer a.png --bundle cut-bundle", "copy the bundle"),
    Case("a bundle that lacks a file", "infer a.png --bundle bundle-lonely", "lacks model.onnx"),
    Case("a manifest of junk", "infer a.png --bundle cut-manifest", "is not a JSON object"),
    Case("a file to draw into", "infer a.png --bundle bundle --draw notes.txt", "File exists", 1),
    Case("a full disk", "infer a.png --bundle bundle --draw empty", "too large", 1, largest=9),
    Case("no engine", "infer a.png --bundle bundle", "'misgiving[cpu]'", lacks=("onnxruntime",)),
]

SERVE_ = [
    Case("no port", "serve --bundle bundle --listen localhost", "expected HOST:PORT"),
    Case("a port out of range", "serve --bundle bundle --listen localhost:70000", "0 to 65535"),
    Case("IPv6 without brackets", "serve --bundle bundle --listen ::1:0", "brackets, [::1]:0"),
    Case("a port in use", "serve --bundle bundle --listen {server}", "cannot be bound", apart=True),
    Case(
        "a host that does not resolve",
        "serve --bundle bundle --listen nowhere.invalid:50051 --insecure",
        "cannot be bound",
        apart=True,
    ),
    Case("no bundle there", "serve --bundle empty --listen 127.0.0.1:0", "empty is no bundle"),
    Case("a device", f"{SERVE} --device tpu", "expected one of cpu, cuda"),
    Case("a rate above one", f"{SERVE} --audit-rate 2", "expected a share from 0 to 1"),
    Case("a device id", f"{SERVE} --device-id van\udce9", "not UTF-8"),
    Case("a rate of NaN", f"{SERVE} --audit-rate nan", "expected a share from 0 to 1"),
    Case("a threshold of NaN", f"{SERVE} --threshold nan", "threshold is nan"),
    Case("a collector without a spool", f"{SERVE} --collector {{nobody}}", "Add --spool DIR"),
    Case("IPv6 without brackets", f"{SERVE} --spool new --collector ::1:1", "brackets, [::1]:1"),
    Case("a collector without a port", f"{SERVE} --spool new --collector car", "HOST:PORT"),
    Case("a file as a spool", f"{SERVE} --spool notes.txt", "expected a folder"),
    Case("a spool of junk", f"{SERVE} --spool cut-spool", "Move it away to start an empty spool"),
    Case("a quota of nothing", f"{SERVE} --spool new --spool-quota 0", "1 or more, or a size"),
    Case("a quota in words", f"{SERVE} --spool new --spool-quota much", 'a size such as "2GiB"'),
    Case("no day in a spool", f"{SERVE} --spool new --spool-days 0", "above 0; one that is older"),
    Case("metrics without a port", f"{SERVE} --metrics car", "expected HOST:PORT"),
    Case("metrics on a port in use", f"{SERVE} --metrics {{server}}", "another with --metrics"),
    Case("no engine", SERVE, "run: pip install 'misgiving[cpu]'", lacks=("onnxruntime",)),
]

STATUS = [
    Case("no server there", "status {nobody}", "Start one with 'misgiving serve'"),
    Case("no port", "status localhost", "expected HOST:PORT"),
]

STREAM = [
    Case("nothing there", "stream no --server {server}", "no does not exist"),
    Case("a camera that is not there", "stream 97 --server {server}", "there is no such device"),
    Case("a pace for a camera", "stream 97 --live --fps 5", "has its own pace"),
    Case(
        "a network stream that nobody sends",
        "stream rtsp://user:secret@{nobody}/stream1 --server {server}",
        "/stream1 gives no frame: Connection refused; check host, port and network",
    ),
    Case(
        "a URL with a / in its password; nothing of it is repeated",
        "stream rtsp://user:sec/ret@camera.example/stream1 --server {server}",
        "Write / ? # @ in a password as %2F %3F %23 %40",
    ),
    Case(
        "a variable that is to hold a URL and is not set",
        "stream env:NO_CAMERA --server {server}",
        "the environment has no variable 'NO_CAMERA'",
    ),
    Case("a folder without an image", "stream empty --server {server}", "holds no image"),
    Case("a text file", "stream notes.txt --server {server}", "nor a video that OpenCV reads"),
    Case("a video that is none", "stream cut.mp4 --server {server}", "Convert it"),
    Case("an image that was cut short", "stream cut.png --server {server}", "cut short", 1),
    Case(
        "no server there",
        "stream a.png --server {nobody} --wait 0",
        "Start one with 'misgiving serve'",
    ),
    Case("no port", "stream a.png --server localhost", "expected HOST:PORT"),
    Case("a port out of range", "stream a.png --server localhost:70000", "0 to 65535"),
    Case("IPv6 without a port", "stream a.png --server ::1", "and a port, [::1]:50051"),
    Case("a URL for a server", "stream a.png --server http://car:50051", "HOST:PORT alone"),
    Case("a wait below zero", "stream a.png --wait -1", "expected seconds, 0 or more"),
    Case("a wait of NaN", "stream a.png --wait nan", "expected seconds, 0 or more"),
    Case("a pace without --live", "stream a.png --fps 5", "add --live"),
    Case("a pace of NaN", "stream a.png --live --fps nan", "expected frames per second"),
    Case("a pace below zero", "stream a.png --live --fps -1", "expected frames per second"),
    Case("a pace without end", "stream a.png --live --fps inf", "expected frames per second"),
    Case("no file of regions", "stream a.png --regions no.json", "expected a JSON file"),
    Case("a folder as regions", "stream a.png --regions empty", "expected a JSON file"),
    Case("regions that were cut short", "stream a.png --regions cut.json", "Invalid JSON"),
    Case("a region of three numbers", "stream a.png --regions short.json", "short.png.0.3"),
    Case(
        "a folder to write replies into",
        "stream a.png --server {server} --json empty",
        "expected a file to write to",
    ),
    Case(
        "a full disk under the replies",
        "stream a.png --server {server} --json /dev/full",
        "expected a sound disk with room",
    ),
]

EXPORT = [
    Case("a checkpoint that is not there", "export no --out new", "no is no checkpoint"),
    Case("a bundle", "export bundle --out new", "bundle is no checkpoint"),
    Case("weights of junk", "export cut-weights --out new", "is a damaged checkpoint"),
    Case("a recipe of junk", "export cut-recipe --out new", "is a damaged checkpoint"),
    Case("a record of junk", "export cut-record --out new", "is a damaged checkpoint"),
    Case("too few persons", "export checkpoint --out new", "parity needs at least 256"),
    Case(
        "a head",
        "export checkpoint --out new --val synthetic:9,256 --head best",
        "head is 'best'; this checkpoint has conv-kl",
    ),
    Case(
        "a rate of all",
        "export checkpoint --out new --val synthetic:9,256 --flag-rate 1",
        "expected between 0 and 1",
    ),
    Case(
        "a rate that the data does not support",
        "export checkpoint --out new --val synthetic:9,256 --miss-rate 0.001",
        "needs 2302 independent failures; synthetic:9,256",
    ),
    Case(
        "a bundle that is there already",
        "export checkpoint --out bundle --val synthetic:9,256",
        "nothing is overwritten. Give another",
    ),
    Case(
        "no exporter",
        "export checkpoint --out new",
        "pip install 'misgiving[cpu,train,export]'",
        lacks=("torch", "onnx", "onnxruntime", "onnxscript"),
    ),
]

DEMO = [
    Case("a pool that is too small", "demo --pool synthetic:2,9 --out new", "a larger pool"),
    Case("a kind of pool", "demo --pool voc:there --out new", "data spec is 'voc:there'"),
    Case("a kind of data", "demo --data voc:there --out new", "data spec is 'voc:there'"),
    Case("a recipe", "demo --recipe fast --out new", "expected one of demo, cpu, paper"),
    Case("somebody's folder", "demo --out bundle", "holds something other than a demo"),
    Case("a file as a folder", "demo --out notes.txt", "notes.txt is a file"),
    Case(
        "nothing but the base install",
        "demo",
        "pip install 'misgiving[cpu,train,export,collector]'",
        lacks=("onnxruntime", "torch", "scipy", "onnx", "onnxscript", "sqlalchemy"),
    ),
]

COLLECT = [
    Case("no port", "collect --store store --listen localhost", "expected HOST:PORT"),
    Case("IPv6 without brackets", "collect --store store --listen :::0", "brackets, [::]:0"),
    Case("a port in use", "collect --store store --listen {server}", "free port", apart=True),
    Case("a file as a store", "collect --store notes.txt", "expected a folder"),
    Case(
        "a key that opens nothing",
        "collect --store store --listen 127.0.0.1:0 --open-with notes.txt",
        "notes.txt is no private X25519 key",
    ),
    Case("a store of junk", "collect --store cut-store", "not a database"),
    Case("S3 as a folder", "collect --store s3://bucket", "Name a database by --database, and S3"),
    Case("no S3", "collect --store new --objects ftp://bucket", "expected s3://BUCKET/PREFIX"),
    Case(
        "another database", "collect --store new --database mysql://ann:pw@host/x", "ann:***@host"
    ),
    Case("no size", "collect --store store --device-bytes lots", "expected a size above 0"),
    Case(
        "no time to keep", "collect --store store --keep-days 0", "Invalid value for '--keep-days'"
    ),
    Case(
        "labels that go first",
        "collect --store store --keep-days 90 --keep-labelled-days 30",
        "expected frames with labels to stay as long as the others",
    ),
    Case(
        "no frame", "collect --store store --device-frames 0", "Invalid value for '--device-frames'"
    ),
    Case(
        "metrics for everybody",
        "collect --store store --listen 127.0.0.1:0 --metrics 0.0.0.0:0",
        "which other machines reach, over plain HTTP",
    ),
    Case(
        "a distance that is none",
        "collect --store store --decline-nearer 3",
        "expected a cosine distance above 0 and up to 2",
    ),
    Case("no frames", "collect --store store --decline-within 0", "expected a number from 1 on"),
    Case("no collector", "collect", "'misgiving[collector]'", lacks=("sqlalchemy",)),
]

FRAMES = [
    Case("no store", "frames list --store empty", "empty is no store"),
    Case("a time", "frames list --store store --since yesterday", "--since: time is 'yesterday'"),
    Case("a time", "frames export --store store --out new --until 2h30", "or so long ago: 90m, 2h"),
    Case("a range", "frames status --store store --score 0.9-0.5", "--score: score is '0.9-0.5'"),
    Case("a reason", "frames list --store store --reason bored", "expected one of predicted_loss"),
    Case("a mark", "frames list --store store --mark good", "'good' is not one of 'label'"),
    Case("an order", "frames list --store store --order best", "'best' is not one of 'newest'"),
    Case("a digest of no frame", "frames show ffff --store store", "no frame's digest begins with"),
    Case("a picture of no kind", "frames show ffff --store store --image a.gif", "ends in .png"),
    Case(
        "a picture that is there already",
        "frames show ffff --store store --image a.png",
        "a.png is there already; nothing is overwritten",
    ),
    Case("a picture without a name", "frames show ffff --store store --plain", "Add it"),
    Case("nobody", "frames export --store store --out new --device bus", "no frame of the store"),
    Case("everybody", "frames erase --store store --yes", "would erase every frame"),
    Case("nobody to ask", "frames erase --store store --all", "expected --yes"),
]

REVIEW = [
    Case("no port", "review --store store --listen localhost", "expected HOST:PORT"),
    Case(
        "an address that others reach",
        "review --store store --listen 0.0.0.0:8080",
        "Add --behind-proxy where there is one, or --insecure",
    ),
    Case(
        "a login that nobody has",
        "review --store store --listen 127.0.0.1:0 --behind-proxy",
        "Make one with 'misgiving review --store DIR --add-user NAME'",
    ),
    Case("a port in use", "review --store store --listen {server}", "cannot be bound", apart=True),
    Case("no store", "review --store empty", "empty is no store"),
    Case("a store of junk", "review --store cut-store", "not a database"),
    Case(
        "a name with a space", "review --store store --add-user 'a b'", "name is 'a b'", apart=True
    ),
    Case(
        "a short password", "review --store store --add-user ann", "expected 12 or more", apart=True
    ),
    Case("nobody to remove", "review --store store --remove-user ann", "no account 'ann'"),
    Case("no Flask", "review --store store", "'misgiving[collector]'", lacks=("flask",)),
]

ANNOTATIONS = [
    Case("no store", "annotations export --store empty --out new", "empty is no store"),
    Case("a store of junk", "annotations export --store cut-store --out new", "not a database"),
    Case("a format", "annotations export --store store --out new --format voc", "'voc' is not one"),
    Case(
        "a bundle that collected nothing",
        "annotations export --store store --out new --bundle ffff",
        "has no frame to export",
    ),
    Case(
        "an export that is there already",
        "annotations export --store store --out batch",
        "nothing is overwritten. Give another",
    ),
    Case(
        "a full disk",
        "annotations export --store store --out new",
        "new cannot be written: File too large",
        largest=50_000,
    ),
    Case("no export", "annotations import empty --out new", "'misgiving annotations export'"),
    Case("annotations of junk", "annotations import cut-batch --out new", "not JSON"),
    Case(
        "pre-labels that nobody has corrected",
        "annotations import batch-untouched --out new",
        "add --trust-untouched",
    ),
    Case(
        "images that the tool has turned",
        "annotations import batch-turned --out new",
        "is 160 x 140 px; batch-turned/annotations.json says 140 x 160 px",
    ),
    Case(
        "images that the tool has renamed",
        "annotations import batch-renamed --out new",
        "images that were not exported, frame_1.png for one",
    ),
    Case(
        "a joint far outside of its image",
        "annotations import batch-far --out new",
        "Mend it in the tool",
    ),
    Case("no images", "annotations import batch-without-images --out new", "copy the export's"),
]

CASES = [
    *(*GENERAL, *INFER, *SERVE_, *STATUS, *STREAM, *TRAINING),
    *(*EXPORT, *CALIBRATE, *BUILD, *ON_TENSORRT, *BENCH, *DEMO, *COLLECT, *REVIEW, *FRAMES),
    *(*FLEET, *ANNOTATIONS, *TOOLS, *NEXT_CYCLE),
    *(*PRECISION, *TLS, *TRUST, *ATTACH, *SUSPECTS, *CONFIG, *DETECTOR, *WATCH),
]
