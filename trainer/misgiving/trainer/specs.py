"""How data and recipes are named, in words: for help texts, which must not load numpy, and for
errors."""

SPECS = (
    "lsp:DIR, lspet:DIR, coco:JSON@IMAGES, mpii:JSON@IMAGES, synthetic:SEED,N[,LOW-HIGH], "
    "labels:DIR or images:DIR (no labels), each with #FIRST-LAST or #@FILE (a list of ids); "
    "labels:DIR also with #train or #val"
)

RECIPE_NAMES = (
    "demo",
    "cpu",
    "paper",
    "hrnet-w32",
    "hrnet-w48",
    "resnet-50",
    "edge",
    "lite",
    "deeppose",
    "tompson",
)
