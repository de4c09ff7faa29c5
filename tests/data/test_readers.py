from __future__ import annotations

import csv
import gzip
import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tsporec.data.cleaning import clean_text
from tsporec.data.items import Interactions, Item, check_known, item_text, tokenize_items
from tsporec.data.readers import common, hllm, read_items, read_sequences
from tsporec.data.splits import hold_out_users, merge_windows, training_sequences

EXPECTED = [
    Item("1", {"title": "Gel pen", "description": "Writes. Fine."}),
    Item("2", {"title": "Paper"}),
]
SEQUENCES = [Interactions("u", ("1", "2", "1")), Interactions("v", ("2",))]


def write(path, text):
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def lines(*records):
    return "".join(json.dumps(r) + "\n" for r in records)


ITEM_FILES = [
    (
        "X.item.json",
        None,
        json.dumps(
            {
                "1": {"title": "Gel pen", "description": "['Writes.', 'Fine.']"},
                "2": {"title": "Paper", "description": "[]"},
            }
        ),
    ),
    ("X.item", None, "item_id:token\ttitle:token_seq\tdescription:token_seq\n1\tGel pen\tWrites. Fine.\n2\tPaper\t\n"),
    (
        "meta.json.gz",
        "amazon2018",
        lines(
            {"asin": "1", "title": "Gel pen", "description": ["Writes.", "<b>Fine.</b>"]},
            {"asin": "2", "title": "Paper"},
        ),
    ),
    (
        "meta.jsonl",
        "amazon2023",
        lines(
            {"parent_asin": "1", "title": "Gel pen", "description": ["Writes. Fine."]},
            {"parent_asin": "2", "title": "Paper", "store": None},
        ),
    ),
    ("X.csv", "hllm", 'item_id,title,description\n1,Gel pen,"Writes. Fine."\n2,Paper,\n'),
    (
        "items.jsonl",
        None,
        lines({"id": 1, "title": "Gel pen", "description": "Writes. Fine."}, {"id": "2", "title": "Paper"}),
    ),
]


@pytest.mark.parametrize(("name", "kind", "text"), ITEM_FILES)
def test_every_format_gives_the_same_items(tmp_path, name, kind, text):
    assert read_items(write(tmp_path / name, text), kind) == EXPECTED


def test_mind(tmp_path):
    write(
        tmp_path / "news.tsv", 'N1\tsports\tgolf\tA "birdie"\tIt was.\tu\t[]\t[]\nN2\tnews\tworld\tPaper\t\tu\t[]\t[]\n'
    )
    assert read_items(tmp_path / "news.tsv")[0] == Item(
        "N1", {"title": 'A "birdie"', "description": "It was.", "category": "sports", "subcategory": "golf"}
    )
    rows = "2\tu\t11/12/2019 9:00:00 AM\tN1\tN2-1 N1-0\n1\tu\t11/11/2019 9:05:58 AM\tN2\tN1-1\n"
    write(tmp_path / "behaviors.tsv", rows)
    assert read_sequences(tmp_path / "behaviors.tsv") == [Interactions("u", ("N2", "N1", "N2"))]


EVENTS = (("u", "2", 5), ("u", "1", 1), ("v", "2", 1), ("u", "1", 9))
SEQUENCE_FILES = [
    ("X.inter.json", None, json.dumps({"u": [1, 2, 1], "v": [2]})),
    ("X.inter", None, "user_id:token\titem_id:token\ttimestamp:float\nu\t2\t5\nu\t1\t1\nv\t2\t1\nu\t1\t9.5\n"),
    (
        "reviews.json",
        "amazon2018",
        lines(*({"reviewerID": u, "asin": i, "unixReviewTime": t} for u, i, t in EVENTS)),
    ),
    (
        "reviews.jsonl.gz",
        "amazon2023",
        lines(*({"user_id": u, "parent_asin": i, "timestamp": t} for u, i, t in EVENTS)),
    ),
    ("X.csv", "hllm", "item_id,user_id,timestamp\n2,u,5\n1,u,1\n2,v,1\n1,u,9\n"),
    ("interactions.csv", None, "user_id,item_id,timestamp\nu,2,5\nu,1,1\nv,2,1\nu,1,9\n"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kind", "text"), SEQUENCE_FILES)
def test_every_format_gives_the_same_sequences(tmp_path, name, kind, text):
    assert read_sequences(write(tmp_path / name, text), kind) == SEQUENCES


def test_times_are_kept_in_order(tmp_path):
    path = write(tmp_path / "interactions.csv", "user_id,item_id,timestamp\r\nu,2,5\r\nu,1,1\r\n\r\n")
    assert read_sequences(path)[0].times == (1.0, 5.0)


def test_recbole_rows_and_vectors(tmp_path):
    text = "user_id:token\titem_id_list:token_seq\titem_id:token\n0\t1 2 3\t4\n0\t1 2\t3\n"
    path = write(tmp_path / "X.train.inter", text)
    assert read_sequences(path) == [Interactions("0", ("1", "2", "3", "4")), Interactions("0", ("1", "2", "3"))]
    path = write(tmp_path / "X.item", "item_id:token\tname:token_seq\tv:float_seq\tyear:float\n1\tPen\t0.1 2\t1995\n")
    assert read_items(path) == [Item("1", {"name": "Pen", "year": "1995"})]


words = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="<>&{}[]"), min_size=1, max_size=8)


@given(st.dictionaries(words, st.tuples(words, words), min_size=1, max_size=5))
def test_what_is_written_is_read(tmp_path_factory, catalogue):
    folder = tmp_path_factory.mktemp("formats")
    rows = [{"item_id": key, "title": title, "description": text} for key, (title, text) in catalogue.items()]
    assume(not {text for row in rows for text in row.values()} & (hllm._MISSING | common._MISSING))
    with (folder / "X.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, ["item_id", "title", "description"])
        writer.writeheader()
        writer.writerows(rows)
    write(folder / "items.jsonl.gz", lines(*({"id": r["item_id"], **r} for r in rows)))
    header = "item_id:token\ttitle:token_seq\tdescription:token_seq\n"
    write(folder / "X.item", header + "".join("\t".join(row.values()) + "\n" for row in rows))
    expected = [Item(key, {"title": title, "description": text}) for key, (title, text) in catalogue.items()]
    assert read_items(folder / "X.csv", "hllm") == read_items(folder / "X.item") == expected
    assert [item.fields["title"] for item in read_items(folder / "items.jsonl.gz")] == [r["title"] for r in rows]


def test_minionerec_rows(tmp_path):
    rows = """u,"[1, 2]",3\nv,[],1\nw,['1' '2'],3\nx,"['1'\n '2']",3\n"""
    rows += """y,"[np.int64(1), np.str_('2')]",3\nz,"('1', 2)",3\na,"array(['1', '2'], dtype=object)",3\n"""
    path = write(tmp_path / "X.valid.csv", "user_id,history_item_id,item_id\n" + rows)
    expected = {"u": ("1", "2", "3"), "v": ("1",), "w": ("1", "2", "3"), "x": ("1", "2", "3")}
    expected |= dict.fromkeys("yza", ("1", "2", "3"))
    assert read_sequences(path) == [Interactions(user, items) for user, items in expected.items()]


ROWS = [{"id": 1, "title": "Gel pen", "description": "Writes. Fine."}, {"id": 2, "title": "Paper", "description": None}]
TABLES = {
    "items.jsonl": lines(*ROWS),
    "items.json": json.dumps(ROWS, indent=1),
    "lines.json": "\n" + lines(*ROWS),
    "items.csv": "item_id,title,description\n1,Gel pen,Writes. Fine.\n2,Paper,\n",
    "items.tsv": "item_id\ttitle\tdescription\n1\tGel pen\tWrites. Fine.\n2\tPaper\t\n",
}


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("name", TABLES)
def test_own_items_in_every_file(tmp_path, name, end):
    assert read_items(write(tmp_path / (name + end), TABLES[name])) == EXPECTED


def test_own_items_in_tables_and_parquet(tmp_path):
    pandas, datasets = pytest.importorskip("pandas"), pytest.importorskip("datasets")

    class Polars:
        def to_dicts(self):
            return ROWS

    frame = pandas.DataFrame(ROWS)
    frame.to_parquet(tmp_path / "items.parquet")
    for source in (ROWS, iter(ROWS), Polars(), frame, datasets.Dataset.from_list(ROWS), tmp_path / "items.parquet"):
        assert read_items(source) == EXPECTED
    assert read_items(frame.rename(columns={"id": "asin"}), id_field="asin") == EXPECTED
    whole = (tmp_path / "items.parquet").read_bytes()
    for spoiled in (
        b"PAR1 but no more",
        whole[:4] + b"\xff" * 40 + whole[44:],
        whole.replace(b"Writes. ", b"\xff\xfe\xfd\xfc\xfb. "),
    ):
        (tmp_path / "items.parquet").write_bytes(spoiled)
        with pytest.raises(ValueError, match=r"items\.parquet:1: not a parquet file"):
            read_items(tmp_path / "items.parquet")


def test_what_is_no_table_is_named():
    for source in (7, {"id": 1}, None):
        with pytest.raises(TypeError, match="expected a file, a DataFrame"):
            read_items(source)
    with pytest.raises(TypeError, match="row 1 is int; expected a mapping"):
        read_items([1])
    with pytest.raises(ValueError, match=r"list:2: no column 'item_id' or 'id'; found \['title'\]"):
        read_items([{"id": 1}, {"title": "x"}])
    with pytest.raises(ValueError, match=r"list:1: expected a timestamp .*found 'True'"):
        read_sequences([{"user": 1, "id": 2, "time": True}])
    with pytest.raises(TypeError, match="the format mind is one of files; found list"):
        read_items([], "mind")
    with pytest.raises(ValueError, match=r"leave out id_field=… \(--id-field\)"):
        read_items("X.item", id_field="asin")


def test_columns_of_one_name_are_refused(tmp_path):
    pandas, arrow, parquet = (pytest.importorskip(name) for name in ("pandas", "pyarrow", "pyarrow.parquet"))
    table = arrow.table([[1], ["gel"], ["pen"]], names=["id", "title", "title"])
    parquet.write_table(table, tmp_path / "items.parquet")
    frame = pandas.DataFrame([[1, "gel", "pen"]], columns=["id", "title", "title"])
    for source in (frame, table, tmp_path / "items.parquet"):
        with pytest.raises(ValueError, match="the column 'title' stands in the header twice"):
            read_items(source)
    assert read_items(pandas.DataFrame([[1, "pen"]], columns=["id", 0])) == [Item("1", {"0": "pen"})]


TIMES = [
    ("2024-05-02", "2024-05-01", "2024-05-03"),
    ("2024-05-01T12:00:00Z", "2024-05-01 11:59:59", "2024-05-01T14:00:00+01:00"),
    (1714600000, 1714500000, 1714700000),
    ("1714600000000", "1714500000000", "1714700000000.5"),
    (1714600000000000000, 1714500000000000000, 1714700000000000000),
    (2, 1, 3),
]


@pytest.mark.parametrize("times", TIMES)
def test_times_are_read_in_any_unit(tmp_path, times):
    pandas = pytest.importorskip("pandas")
    rows = [{"user_id": "u", "id": item, "date": time} for item, time in zip("213", times, strict=True)]
    found = read_sequences(write(tmp_path / "X.jsonl", lines(*rows)))
    assert found == [Interactions("u", ("1", "2", "3"))]
    assert max(found[0].times) < 2e9
    assert read_sequences(pandas.DataFrame(rows)) == found
    if isinstance(times[0], str) and "-" in times[0]:
        rows = [{**row, "date": pandas.Timestamp(row["date"])} for row in rows]
        assert read_sequences(rows)[0].times == found[0].times


def test_histories_and_missing_times(tmp_path):
    rows = [{"user": "u", "history_item_id": [1, 2], "item_id": 3}]
    assert read_sequences(rows) == [Interactions("u", ("1", "2", "3"))]
    assert read_sequences(rows)[0].row
    with pytest.raises(ValueError, match="1 records have 'history_item_id' and 1 have none"):
        read_sequences([*rows, {"user": "u", "item_id": 3}])
    for odd in ({1, 2}, {"1": 2}, b"12", None, 7):
        with pytest.raises(ValueError, match="list:1: expected a literal list of item ids"):
            read_sequences([{"user": "u", "history_item_id": odd, "item_id": 3}])
    with pytest.raises(ValueError, match="1 of 2 interactions have a time"):
        read_sequences([{"user": "u", "item_id": 3, "time": 1}, {"user": "u", "item_id": 4}])
    assert read_sequences([{"user": "u", "item_id": 3}])[0].times == ()


def test_hllm_leaves_out_what_pandas_takes_for_missing(tmp_path):
    missing = ["nan", "NaN", "None", "NULL", "N/A", "", "null", "NA", "<NA>"]
    path = write(tmp_path / "X.csv", "item_id,title,text\n" + "".join(f"{i},Pen,{m}\n" for i, m in enumerate(missing)))
    assert [item.fields for item in read_items(path, "hllm")] == [{"title": "Pen"}] * len(missing)


@pytest.mark.parametrize("mark", [",", " ", ";", "|", "  "])
def test_atomic_files_with_another_separator_are_refused(tmp_path, mark):
    text = mark.join(["item_id:token", "title:token_seq"]) + "\n" + mark.join(["7", "Pen"]) + "\n"
    with pytest.raises(ValueError, match=r"X\.item:1: column .*is another mark than a tab between columns"):
        read_items(write(tmp_path / "X.item", text))


def test_a_gzipped_line_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "_LONGEST_LINE", 1000)
    for length, fits in ((900, True), (1000, False), (5000, False)):
        line = json.dumps({"id": "1", "title": "x" * (length - 25)}) + "\n"
        path = write(tmp_path / "items.jsonl.gz", "\n" + line)
        if fits:
            assert read_items(path)[0].id == "1"
        else:
            with pytest.raises(ValueError, match=r"items\.jsonl\.gz:2: the line is longer than 1000 bytes"):
                read_items(path)


@pytest.mark.parametrize(
    ("name", "kind"), [("items.jsonl.gz", None), ("items.json.gz", None), ("meta.json.gz", "amazon2018")]
)
def test_a_gzip_bomb_is_refused(tmp_path, monkeypatch, name, kind):
    monkeypatch.setattr(common, "_SMALL", 1000)
    rows = [{"asin": str(n), "id": n, "title": "x" * 4000} for n in range(200)]
    path = write(tmp_path / name, lines(*rows))
    assert path.stat().st_size * 100 < 2000 * 400
    with pytest.raises(ValueError, match=rf"{name}:\d+: .* expands to more than 100 times its size"):
        read_items(path, kind)
    assert read_items(write(tmp_path / name, lines(rows[0])), kind)  # as many times its size, but small


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_marks_ends_of_lines_and_nul_bytes(tmp_path, end):
    for name in ("items.csv", "items.tsv", "X.item"):
        mark = "," if name == "items.csv" else "\t"
        types = ("item_id:token", "title:token_seq") if name == "X.item" else ("item_id", "title")
        rows = [types, ("1", "Gel\x00 pen\u2028"), ("2", "Paper")]
        text = "\ufeff" + end.join(map(mark.join, rows))
        found = read_items(write(tmp_path / name, text))
        assert found == [Item("1", {"title": "Gel pen"}), Item("2", {"title": "Paper"})]
    text = "\ufeff" + end.join(
        [json.dumps({"id": "1\x1b[2J\n", "title": "Gel pen"}), '{"id": "2", "title": "nan"}', ""]
    )
    assert read_items(write(tmp_path / "items.jsonl", text)) == [Item("1\x1b[2J\n", {"title": "Gel pen"}), Item("2")]
    (tmp_path / "items.csv").write_bytes("item_id,title\n1,Pen\n".encode("utf-16"))
    with pytest.raises(ValueError, match=r"items\.csv:1: not UTF-8 text"):
        read_items(tmp_path / "items.csv")


DEEP = "[" * 400 + "]" * 400
MALFORMED = [
    ("items.jsonl", '{"id": 1}\n{"id": 2, "ti', r"items\.jsonl:2: not a JSON object a line"),
    (
        "items.csv",
        "item_id;title\n1;pen\n",
        r"csv:1: the columns are separated by ';', expected ',': 'item_id;title'",
    ),
    ("items.jsonl", '{"title": "x"}\n', r"items\.jsonl:1: no column 'item_id' or 'id'"),
    ("items.jsonl", "[1]\n", r"items\.jsonl:1: expected a JSON object, found list"),
    ("X.item.json", '{"1": {"title": "a"},\n "2": {"ti', r"X\.item\.json:2: not JSON .*is the file cut"),
    ("X.item.json", '{"1": "a"}', "item '1' is str"),
    ("X.item", "name\n1\n", r"X\.item:1: no column 'item_id'"),
    ("X.item", "item_id:token\ttitle:token\n1\n", r"X\.item:2: 1 fields, expected 2"),
    ("news.tsv", "N1\ta\n", r"news\.tsv:1: 2 tab-separated fields, expected 8"),
    ("X.item.json", '{"1": {"title": "a"}, "1": {"title": "b"}}', "the key '1' stands there twice"),
    ("items.jsonl", '{"id": [1]}\n', r"items\.jsonl:1: expected an id .* found \[1\]"),
    ("items.jsonl", '{"id": 1}\n{"id": 2.0}\n', r"items\.jsonl:2: expected an id .* found 2\.0"),
    ("items.jsonl", "[" * 100_000, r"items\.jsonl:1: not"),
    ("items.jsonl", f'{{"id": 1, "title": {DEEP}}}', r"items\.jsonl:1: item '1': .*nested more than 50"),
    ("X.item.json", f'{{"1": {{"title": {DEEP}}}}}', r"X\.item\.json: item '1': .*nested more than 50"),
    ("items.csv", "id,title\n1,Pen\n\ufeffid,title\n2,Ink\n", r"items\.csv:3: the header stands there again"),
    ("X.item", "item_id:token\ta:token\ta:token_seq\n1\tx\ty\n", r"X\.item:1: the column 'a' stands in the header"),
    ("news.tsv", "N1\ta\tb\tT\tA\t\t\t\n" * 2, r"news\.tsv:2: item 'N1' stands at .*news\.tsv:1 already"),
    ("items.jsonl", '{"id": "nan"}\n', r"items\.jsonl:1: the column 'id' has no value"),
    ("items.jsonl", "\n", r"items\.jsonl: the catalogue is empty"),
    ("X.item.json", "{}", r"X\.item\.json: the catalogue is empty"),
]


@pytest.mark.parametrize(("name", "text", "message"), MALFORMED)
def test_a_malformed_line_is_named(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=message):
        read_items(write(tmp_path / name, text))


MALFORMED_SEQUENCES = [
    ("X.valid.csv", "user_id,history_item_id,item_id\nu,__import__('os'),3\n", r":2: expected a literal list"),
    ("X.valid.csv", 'user_id,history_item_id,item_id\nu,"[1, 2",3\n', r":2: expected a literal list"),
    ("X.valid.csv", 'user_id,history_item_id,item_id\nu,"[1, 2]', r":2: not a CSV row .*is the file cut"),
    ("X.valid.csv", "user_id,item_id\n", "there is no interaction"),
    ("X.valid.csv", "user_id,item_id,item_id\n", r":1: the column 'item_id' stands in the header twice"),
    ("X.valid.csv", "", "the file is empty"),
    ("interactions.csv", "user_id,item_id,timestamp\nu,1,soon\n", r":2: expected a timestamp .*found 'soon'"),
    ("behaviors.tsv", "1\tu\tyesterday\t\t\n", r":1: expected a time like"),
    ("behaviors.tsv", "1\tu\t11/11/2019 9:05:58 AM\tN1\tN2 N3\n", r":1: impression 'N2' has no click label"),
    ("behaviors.tsv", "1\tu\t11/11/2019 9:05:58 AM\tN1\t-1 N4-0\n", r":1: impression '-1' has no click label"),
    ("X.valid.csv", "user_id,history_item_id,item_id\nu,{'1': '2'},3\n", r":2: expected a literal list"),
    ("X.valid.csv", "user_id,history_item_id,item_id\nu,(1),3\n", r":2: expected a literal list"),
    ("X.valid.csv", "user_id,history_item_id,item_id\nu,[1 2],3\n", r":2: expected a literal list"),
    ("interactions.csv", "user_id,item_id,timestamp\nu,1,1\n\nu,2,nan\n", r":4: the column 'timestamp' has no value"),
    ("interactions.csv", 'user_id,"item_id,timestamp\n', "not a CSV row"),
    ("X.valid.csv", 'user_id,history_item_id,item_id\nu,"[[1]]",3\n', r":2: expected an id"),
    ("X.valid.csv", "user_id,history_item_id,item_id\nu,[{[]: 1}],3\n", r":2: expected a literal list"),
    ("X.valid.csv", "user_id,history_item_id,item_id\nu," + "[" * 9999 + ",3\n", r":2: expected a literal list"),
    ("X.valid.csv", "user_id,history_item_id,item_id\n,[1],3\n", r":2: the column 'user_id' has no value"),
    ("X.inter.json", '{"u": [1, null]}', "expected an id .* found None"),
    ("X.inter.json", '{"u": []}', r"user 'u' has \[\], expected a list of items"),
    ("X.inter.json", '{"": [1]}', "expected an id .* found ''"),
    ("behaviors.tsv", "1\t\t11/11/2019 9:05:58 AM\tN1\tN4-1\n", ":1: expected an id .* found ''"),
    ("X.inter.json", '{"u": [1, "nan"]}', "expected an id .* found 'nan'"),
    ("interactions.csv", "user_id,item_id\nNaN,1\n", r":2: the column 'user_id' has no value"),
    ("X.valid.csv", "user_id,history_item_id,item_id\nu,['1' ... '2'],3\n", r":2: expected a literal list"),
]


@pytest.mark.parametrize(("name", "text", "message"), MALFORMED_SEQUENCES)
def test_a_malformed_sequence_is_named(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=message):
        read_sequences(write(tmp_path / name, text))


def test_a_cut_gzip_a_missing_file_and_an_unknown_format(tmp_path):
    path = write(tmp_path / "meta.json.gz", lines(*({"asin": str(i), "title": "x" * 50} for i in range(999))))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"meta\.json\.gz:\d+: gzip data is cut"):
        read_items(path, "amazon2018")
    path.write_bytes(b"no gzip")
    with pytest.raises(ValueError, match=r"meta\.json\.gz:1: gzip data is cut or damaged"):
        read_items(path, "amazon2018")
    (tmp_path / "items.jsonl").write_bytes(b"".join(b'{"id": %d}\n' % n for n in range(5000)) + b'{"id": "\xff"}\n')
    with pytest.raises(ValueError, match=r"items\.jsonl:5001: not UTF-8 text"):
        read_items(tmp_path / "items.jsonl")
    with pytest.raises(ValueError, match="there is no such file"):
        read_items(tmp_path / "none.item.json")
    with pytest.raises(ValueError, match="there is no such file"):
        read_items(tmp_path / "none.bin")
    (tmp_path / "x.bin").touch()
    with pytest.raises(ValueError, match="does not show the format"):
        read_items(tmp_path / "x.bin")
    with pytest.raises(ValueError, match=r"there is no format 'x'.*\(--format\): plain \(your own .*hllm \("):
        read_items(path, "x")


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        (None, ""),
        (float("nan"), ""),
        ("  a\n b ", "a b"),
        ("<!-- .headerM {color:#000;font-family:Arial,Verdana;} .b {x:1} --> Tape <br/>roll", "Tape roll"),
        (".style3 {font-size: 11px; font-weight: bold} Tape", "Tape"),
        ("<style type='text/css'>p {x:1}</style>Tape<script>let a = 1 < 2;</script>", "Tape"),
        ("8.5&rdquo; x 11&amp;rdquo;", "8.5” x 11”"),
        ("3 < 4 and 5 > 2", "3 < 4 and 5 > 2"),
        ("Cut <a href='x", "Cut"),
        ("['a', \"it's\"]", "a it's"),
        ("[not a list]", "[not a list]"),
        ({"a": "x", "b": ["y", None]}, "x y"),
        ("{braces}", "{braces}"),
    ],
)
def test_cleaning(raw, clean):
    assert clean_text(raw) == clean


def test_text_and_tokens(tokenizer):
    assert item_text(EXPECTED[0]) == "Gel pen\nWrites. Fine."
    assert item_text(EXPECTED[1], ("description",)) == ""
    tokens = tokenize_items(EXPECTED, tokenizer, ("description",))
    assert tokens.lengths.tolist()[1] == 0
    assert tokenizer.decode(tokens[0]) == "Writes. Fine."
    assert tokenize_items(EXPECTED, tokenizer, max_tokens=2).lengths.tolist() == [2, min(2, len(tokens[1]) or 2)]
    assert len(tokenize_items([], tokenizer)) == 0
    many = [Item(str(i), {"title": "Gel pen " * (i % 3)}) for i in range(5000)]
    counts = tokenize_items(many, tokenizer).lengths
    assert counts.tolist() == tokenize_items(many[:3], tokenizer).lengths.tolist() * 1666 + counts[:2].tolist()
    with pytest.raises(ValueError, match="max_tokens must be a whole number of at least 1, or None; found 0"):
        tokenize_items(EXPECTED, tokenizer, max_tokens=0)


def test_unknown_doubled_and_no_items():
    with pytest.raises(ValueError, match=r"user 'w'.* names item '9', .* of 2 items lacks; its ids are like '"):
        check_known(EXPECTED, [Interactions("w", ("1", "9"))])
    assert check_known(EXPECTED, [Interactions("w", ("1", "9")), Interactions("x", ("9",))], "drop") == [
        Interactions("w", ("1",))
    ]
    rows = [Interactions("w", ("1", "9", "2")), Interactions("w", ("1", "2", "9"))]
    assert check_known(EXPECTED, rows, "drop", targets=True) == [Interactions("w", ("1", "2"))]
    timed = [Interactions("w", ("1", "9", "2"), (1.0, 2.0, 3.0))]
    assert check_known(EXPECTED, timed, "drop")[0].times == (1.0, 3.0)
    with pytest.raises(ValueError, match="unknown must be 'error' or 'drop'"):
        check_known(EXPECTED, [], "ignore")
    with pytest.raises(ValueError, match="the catalogue is empty"):
        check_known([], [])
    with pytest.raises(ValueError, match="'1' stands in the catalogue twice"):
        check_known([EXPECTED[0], EXPECTED[0]], [])


def test_splits():
    rows = [Interactions("u", ("1", "2")), Interactions("v", ("5", "6")), Interactions("u", ("2", "3"))]
    assert merge_windows(rows) == [Interactions("u", ("1", "2", "3")), Interactions("v", ("5", "6"))]
    test = [Interactions("u", ("3", "4", "9")), Interactions("u", ("4", "9", "8")), Interactions("w", ("7", "8"))]
    assert training_sequences(rows, test) == [Interactions("u", ("1", "2", "3", "4")), Interactions("v", ("5", "6"))]
    many = [Interactions(str(i), ("1", "2")) for i in range(50)]
    rest, held = hold_out_users(many, seed=3)
    assert len(held) == 5
    assert sorted(rest + held, key=lambda s: s.user_id) == sorted(many, key=lambda s: s.user_id)
    assert hold_out_users(many, seed=3) == (rest, held)


@pytest.mark.real
@pytest.mark.parametrize(
    ("category", "items", "valid", "test", "sequences", "pairs"),
    [
        ("Office_Products", 3459, 4866, 4866, 2894, 14350),
        ("Industrial_and_Scientific", 3686, 4532, 4533, 3018, 14925),
    ],
)
def test_real_categories(data_dir, category, items, valid, test, sequences, pairs):
    base = data_dir / "amazon18" / category
    catalogue = read_items(f"{base}.item.json")
    train_rows, test_rows = (read_sequences(f"{base}.{split}.csv") for split in ("valid", "test"))
    assert (len(catalogue), len(train_rows), len(test_rows)) == (items, valid, test)
    check_known(catalogue, [*train_rows, *test_rows])
    training = training_sequences(train_rows, test_rows)
    assert (len(training), sum(len(s.item_ids) - 1 for s in training)) == (sequences, pairs)
    assert not any(
        "{" in item_text(item) and "}" in item_text(item) and ";" in item_text(item) for item in catalogue[:500]
    )


def test_text_before_a_style_rule_stays():
    assert (
        clean_text("Great paper, 8.5 x 11. .head, .foot b {color:#000;} For printers")
        == "Great paper, 8.5 x 11. For printers"
    )
