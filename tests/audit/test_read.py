"""Files of any usual separator and encoding; names are compared letter by letter."""

import unicodedata

import numpy as np
import pytest

from leepjax.audit import read_csv, read_pool, recompute

TABLE = "model,accuracy,leep\nétude,80.5,-1.5\nüber 2,81.5,-1.25\nx,83,-1\n"


def write(tmp_path, text, encoding="utf-8", name="t.csv"):
    (tmp_path / name).write_bytes(text.encode(encoding))
    return read_csv(tmp_path / name)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators_and_encodings(tmp_path, encoding, separator):
    text = TABLE.replace(",", separator)
    text = text.replace(".", ",") if separator != "," else text
    table = write(tmp_path, text, encoding)
    assert list(table.text("model")) == ["étude", "über 2", "x"]
    np.testing.assert_array_equal(table.numbers("accuracy"), [80.5, 81.5, 83])
    np.testing.assert_array_equal(table.numbers("leep"), [-1.5, -1.25, -1])
    assert list(table.lines) == [2, 3, 4]


def test_the_line_in_which_excel_names_the_separator(tmp_path):
    table = write(tmp_path, "sep=|\r\nmodel|accuracy\r\na|1\r\n\r\nb|2\r\n")
    assert list(table.columns) == ["model", "accuracy"]
    assert list(table.lines) == [3, 5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a;b,c\n1;2,3\n", "t.csv: wanted one separator of cells, got .*commas.*semicolons"),
        ("a,b\n1,2,5\n", "t.csv, line 2: wanted 2 cells like the header, got 3.*wants quotes"),
        ("a,b\n1,\x1b[31m2\n", r"wanted a CSV file, as text, got the character '\\x1b'"),
        ("PK\x03\x04 a workbook", r"wanted a CSV file, as text, got the character '\\x03'"),
    ],
)
def test_what_is_no_table(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path, text)


def test_a_cell_that_keeps_its_separator_is_quoted(tmp_path):
    table = write(tmp_path, 'model,accuracy\n"a; b",1\n"c, d",2\n')
    assert list(table.text("model")) == ["a; b", "c, d"]


def test_a_header_may_hold_another_separator(tmp_path):
    table = write(tmp_path, "model,accuracy (%; top 1; mean)\na,1\nb,2\n")
    assert list(table.columns) == ["model", "accuracy (%; top 1; mean)"]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("M0", "m0"),
        ("M-2", "M2"),
        ("模型", "模型2"),
        ("ResNet50", "ResNet50\u200b"),
        ("βετα", "beta"),
    ],
)
def test_names_that_differ_are_not_joined(tmp_path, ours, theirs):
    table = write(tmp_path, f"model,accuracy,leep\n{ours},1,1\nb,2,2\n")
    models = write(tmp_path, f"model,parameters\n{theirs},5\nb,6\n", name="m.csv")
    with pytest.raises(ValueError, match=f"got none of {ours!r}"):
        read_pool(table, models=models)


def test_a_name_of_two_unicode_forms_is_one(tmp_path):
    table = write(tmp_path, TABLE)
    text = "model,parameters\nx,7\nétude,5\nüber 2,6\nother,1\n"
    models = write(tmp_path, unicodedata.normalize("NFD", text), name="m.csv")
    pool = read_pool(table, models=models)
    np.testing.assert_array_equal(pool.scores["parameters"], [5, 6, 7])
    assert [use.note for use in pool.columns if not use.used] == ["not in the table: 'other'"]


def test_the_nearest_name_is_said(tmp_path):
    table = write(tmp_path, "model,accuracy,leep\nResNet50,1,1\nb,2,2\n")
    models = write(tmp_path, "model,parameters\nresnet-50,5\nb,6\n", name="m.csv")
    with pytest.raises(ValueError, match=r"got none of 'ResNet50' \(nearest: 'resnet-50'\)"):
        read_pool(table, models=models)
    with pytest.raises(ValueError, match="no column 'Leep'; did you mean 'leep'"):
        read_pool(table, scores=["Leep"])


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (
            "model,parameters\na,5\nb,6\na,7\n",
            "line 4, column 'parameters': wanted one value of 'a'",
        ),
        (
            "model,parameters,year\na,5,1\nb,6,1\na,5,2\n",
            "line 4, column 'year': wanted one value of 'a'",
        ),
        ("model,licence\na,MIT\nb,GPL\n", "m.csv: wanted a column of numbers beside 'model', got"),
        ("model,leep\na,5\nb,6\n", "m.csv: wanted each column once, got 'leep' twice"),
        ("name,parameters\na,5\n", "m.csv: no column 'model'"),
    ],
)
def test_facts_given_twice_or_not_at_all(tmp_path, facts, message):
    table = write(tmp_path, "model,accuracy,leep\na,1,1\nb,2,2\n")
    with pytest.raises(ValueError, match=message):
        read_pool(table, models=write(tmp_path, facts, name="m.csv"))
    agree = write(tmp_path, "model,parameters\na,5\nb,6\na,5\n", name="m.csv")
    np.testing.assert_array_equal(read_pool(table, models=agree).scores["parameters"], [5, 6])


def test_families_of_names_in_any_script(tmp_path):
    names = ["モデル1", "モデル2", "сеть1", "50", "51"]
    rows = "".join(f"{name},{i},{i}\n" for i, name in enumerate(names))
    pool = read_pool(write(tmp_path, f"model,accuracy,leep\n{rows}"))
    assert list(pool.clusters["family"][1]) == ["50", "51", "сеть", "モデル"]


LEEP = [-1.611, -0.602, -2.631, -0.542, -2.104, -1.917]


@pytest.mark.parametrize(
    "form",
    [
        str,
        lambda x: str(x).replace("-", "\u2212"),
        lambda x: f'"{x}"'.replace(".", ","),
        lambda x: f"{x}%",
        lambda x: f"{x} ± 0.1",
    ],
)
def test_a_column_of_any_form_is_a_score(tmp_path, form):
    rows = "".join(f"m{i},{80 + i},{form(x)}\n" for i, x in enumerate(LEEP))
    pool = read_pool(write(tmp_path, f"model,accuracy,leep\n{rows}"))
    np.testing.assert_array_equal(pool.scores["leep"], LEEP)


def test_every_column_is_accounted_for(tmp_path):
    text = "model,seed,accuracy,leep,note,empty,gap\n"
    text += "".join(
        f"m{i},{s},{80 + i},{'--' if i == 1 else i},ok{i},,1\n" for i in range(4) for s in (0, 1)
    )
    table = write(tmp_path, text)
    rows = {row["column"]: row for row in recompute(read_pool(table))["columns"]}
    assert list(rows) == list(table.columns)
    assert rows["leep"]["used"] == "score"
    assert rows["leep"]["note"] == "missing in 2 of 8 rows"
    assert rows["seed"]["used"] == "rows are averaged over it"
    assert {name for name, row in rows.items() if not row["used"]} == {"note", "empty", "gap"}
    assert rows["note"]["note"] == "text: 8 cells are no numbers, as 'ok0' on line 2"
    assert rows["empty"]["note"] == "no cell has a number"
    assert rows["gap"]["note"] == "known to be no score"


def test_numbers_that_are_not_asked_for_are_called_so(tmp_path):
    table = write(tmp_path, "model,accuracy,leep,nce\na,1,1,1\nb,2,2,2\nc,3,3,3\n")
    notes = {use.column: use.note for use in read_pool(table, scores=["leep"]).columns}
    assert notes["nce"] == "numbers, but not asked for"


def test_a_value_missing_under_one_seed_costs_that_seed_alone(tmp_path):
    text = "model,seed,accuracy,leep,nce\n"
    for i in range(5):
        for seed in range(3):
            leep = "" if (i, seed) == (0, 1) else i + seed
            text += f"m{i},{seed},{80 + i + seed},{leep},{'' if i == 2 else i}\n"
    pool = read_pool(write(tmp_path, text))
    np.testing.assert_array_equal(pool.scores["leep"], [1, 2, 3, 4, 5])  # of m0: 0 and 2
    np.testing.assert_array_equal(pool.scores["nce"], [0, 1, np.nan, 3, 4])
    np.testing.assert_array_equal(pool.accuracy, [81, 82, 83, 84, 85])
