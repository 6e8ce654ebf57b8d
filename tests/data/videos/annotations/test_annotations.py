"""The official annotation files, in small, exactly as they are published."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from pipeline.data.manifest import video_list
from pipeline.data.manifest.annotations import DATA_SETS
from pipeline.data.manifest.annotations.files import Clip, id_of
from pipeline.errors import UserError

GYM99 = {
    "gym99_train_element_v1.0.txt": "A0A0A0A0A0A_E_000001_000009_A_0003_0005 1\n",  # outdated
    "gym99_train_element_v1.1.txt": (
        "0LtLS9wROrk_E_002407_002435_A_0003_0005 6\n0LtLS9wROrk_E_002407_002435_A_0006_0009 74\n"
    ),
    "gym99_val_element.txt": "-E-A_wROrkk_E_000100_000120_A_0000_0004 0\n",
    "gym99_categories.txt": (
        "Clabel: 0; set: 1; Glabel: 1; (VT) round-off, flic-flac with 0.5 turn on, salto off\n"
        "Clabel: 6; set: 21; Glabel: 19; (FX) switch leap with 0.5 turn\n"
        "Clabel:  74; set: 41; Glabel:  296; (UB) pike sole circle backward with 1 turn\n"
    ),
    "finegym_annotation_info_v1.1.json": json.dumps(
        {
            "0LtLS9wROrk": {
                "E_002407_002435": {
                    "event": 2,
                    "segments": {
                        "A_0003_0005": {"stages": 1, "timestamps": [[3.45, 5.07]]},
                        "A_0006_0009": {"stages": 1, "timestamps": [[6.5, 9.25]]},
                    },
                    "timestamps": [[2407.32, 2435.28]],
                }
            },
            "-E-A_wROrkk": {
                "E_000100_000120": {
                    "event": 1,
                    "segments": {
                        "A_0000_0004": {"stages": 3, "timestamps": [[0.5, 1], [1, 2.2], [2.2, 4]]}
                    },
                    "timestamps": [[100.5, 120.0]],
                }
            },
        }
    ),
}
FILES: dict[str, dict[str, str]] = {
    "kinetics400": {
        "train.csv": (
            "label,youtube_id,time_start,time_end,split\n"
            "testifying,---QUuC4vJs,84,94,train\n"
            '"passing American football (in game)",-3B32lodo2M,59,69,train\n'
        ),
        "kinetics_val.csv": (
            "label,youtube_id,time_start,time_end,split,is_cc\r\n"
            "air drumming,_dbcJuKJQNs,40,50,val,0\r\n"
        ),
        "validate.csv": (
            "label,youtube_id,time_start,time_end,split\nyoga,--GkrdYZ9Tc,0,10,validate\n"
        ),
        "k400_test.csv": "youtube_id,time_start,time_end\n--nQbRBEz2s,104,114\n",
    },
    "ssv2": {
        "something-something-v2-train.json": json.dumps(
            [
                {
                    "id": "78687",
                    "label": "holding potato next to vicks vaporub bottle",
                    "template": "Holding [something] next to [something]",
                    "placeholders": ["potato", "vicks vaporub bottle"],
                }
            ]
        ),
        "something-something-v2-validation.json": json.dumps(
            [
                {
                    "id": "74225",
                    "label": "spinning cube that quickly stops spinning",
                    "template": "Spinning [something] that quickly stops spinning",
                    "placeholders": ["cube"],
                }
            ]
        ),
        "something-something-v2-test.json": json.dumps([{"id": "1420"}, {"id": "3"}]),
        "something-something-v2-labels.json": json.dumps(
            {
                "Holding something next to something": "31",
                "Spinning something that quickly stops spinning": "140",
                "Poking a stack of something without the stack collapsing": "66",
            }
        ),
        "test-answers.csv": "1420;Poking a stack of something without the stack collapsing\n",
    },
    "ucf101": {
        "ucfTrainTestlist/classInd.txt": "1 ApplyEyeMakeup\r\n37 HandstandPushups\r\n",
        "ucfTrainTestlist/trainlist01.txt": (
            "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\r\n"
            "HandstandPushups/v_HandStandPushups_g09_c02.avi 37\r\n"
        ),
        "ucfTrainTestlist/testlist01.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\r\n",
        "ucfTrainTestlist/trainlist03.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi 1\n",
        "ucfTrainTestlist/testlist03.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi\n",
    },
    "hmdb51": {
        "testTrainMulti_7030_splits/brush_hair_test_split1.txt": (
            "April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1 \n"
            "April_09_brush_hair_u_nm_np1_ba_goo_1.avi 0 \n"
        ),
        "testTrainMulti_7030_splits/cartwheel_test_split1.txt": (
            "(Rad)Schlag_die_Bank!_cartwheel_f_cm_np1_le_med_0.avi 2 \n"
        ),
        "testTrainMulti_7030_splits/brush_hair_test_split2.txt": (
            "April_09_brush_hair_u_nm_np1_ba_goo_1.avi 2 \n"
        ),
    },
    "gym99": GYM99,
    "fx-s1": GYM99,
    "ub-s1": GYM99,
    "charades": {
        "Charades_v1_train.csv": (
            "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
            '46GP8,HR43,Kitchen,6,7,Yes,"A person cooking, then\nwalking.",food;stove,He cooks.,'
            "c092 11.90 21.20;c147 0.00 12.60;c092 25.00 30.00,24.83\n"
            "N11GT,0KZ7,Stairs,6,7,Yes,Nothing.,,Nothing.,,18.33\n"
        ),
        "Charades_v1_test.csv": (
            "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length,"
            "egocentric\nYSKX3,KQI6,Bedroom,7,7,Yes,A,b,C,c000 0.00 31.00,31.00,No\n"
        ),
        "Charades_v1_classes.txt": (
            "c000 Holding some clothes\nc092 Watching a laptop or something on a laptop\n"
            "c147 Someone is cooking something\n"
        ),
    },
    "diving48": {
        "Diving48_V2_train.json": json.dumps(
            [{"vid_name": "-mhd-uQrDOg_00042", "label": 1, "start_frame": 0, "end_frame": 168}]
        ),
        "Diving48_V2_test.json": json.dumps(
            [{"vid_name": "8mSB9IvtPSc_00187", "label": 0, "start_frame": 0, "end_frame": 91}]
        ),
        "Diving48_vocab.json": json.dumps(
            [["Back", "15som", "05Twis", "FREE"], ["Back", "15som", "15Twis", "FREE"]]
        ),
    },
    "path-label": {
        "train.csv": "/data/k400/train/abseiling/a b.mp4 0\nrel/x.mp4 17\n",
        "val.csv": "/data/k400/val/y.mp4,3\nz.mp4, -1\n",
    },
}
EXPECTED: dict[str, list[tuple[object, ...]]] = {  # id, name, split, label, from, to
    "kinetics400": [
        ("--nQbRBEz2s_000104_000114", "--nQbRBEz2s_000104_000114", "test", "", 104, 114),
        ("_dbcJuKJQNs_000040_000050", "_dbcJuKJQNs_000040_000050", "val", "air drumming", 40, 50),
        ("---QUuC4vJs_000084_000094", "---QUuC4vJs_000084_000094", "train", "testifying", 84, 94),
        ("-3B32lodo2M_000059_000069", "-3B32lodo2M_000059_000069", "train",
         "passing American football (in game)", 59, 69),
        ("--GkrdYZ9Tc_000000_000010", "--GkrdYZ9Tc_000000_000010", "val", "yoga", 0, 10),
    ],
    "ssv2": [
        ("78687", "78687", "train", "Holding something next to something", None, None),
        ("74225", "74225", "val", "Spinning something that quickly stops spinning", None, None),
        ("1420", "1420", "test", "Poking a stack of something without the stack collapsing",
         None, None),
        ("3", "3", "test", "", None, None),
    ],
    "ucf101": [
        ("v_ApplyEyeMakeup_g08_c01", "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi", "train",
         "ApplyEyeMakeup", None, None),
        ("v_HandStandPushups_g09_c02", "HandstandPushups/v_HandStandPushups_g09_c02.avi", "train",
         "HandstandPushups", None, None),
        ("v_ApplyEyeMakeup_g01_c01", "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi", "test",
         "ApplyEyeMakeup", None, None),
    ],
    "hmdb51": [
        ("brush_hair-April_09_brush_hair_u_nm_np1_ba_goo_0",
         "April_09_brush_hair_u_nm_np1_ba_goo_0.avi", "train", "brush_hair", None, None),
        (id_of("cartwheel-(Rad)Schlag_die_Bank!_cartwheel_f_cm_np1_le_med_0"),
         "(Rad)Schlag_die_Bank!_cartwheel_f_cm_np1_le_med_0.avi", "test", "cartwheel", None, None),
    ],
    "gym99": [
        ("0LtLS9wROrk_E_002407_002435_A_0003_0005", "0LtLS9wROrk_E_002407_002435_A_0003_0005",
         "train", "6 (FX) switch leap with 0.5 turn", 2410.77, 2412.39),
        ("0LtLS9wROrk_E_002407_002435_A_0006_0009", "0LtLS9wROrk_E_002407_002435_A_0006_0009",
         "train", "74 (UB) pike sole circle backward with 1 turn", 2413.82, 2416.57),
        ("-E-A_wROrkk_E_000100_000120_A_0000_0004", "-E-A_wROrkk_E_000100_000120_A_0000_0004",
         "val", "0 (VT) round-off, flic-flac with 0.5 turn on, salto off", 101.0, 104.5),
    ],
    "charades": [
        ("46GP8", "46GP8", "train", "c092 Watching a laptop or something on a laptop;"
         "c147 Someone is cooking something", None, None),
        ("N11GT", "N11GT", "train", "", None, None),
        ("YSKX3", "YSKX3", "test", "c000 Holding some clothes", None, None),
    ],
    "diving48": [
        ("-mhd-uQrDOg_00042", "-mhd-uQrDOg_00042", "train", "1 Back-15som-15Twis-FREE", None, None),
        ("8mSB9IvtPSc_00187", "8mSB9IvtPSc_00187", "test", "0 Back-15som-05Twis-FREE", None, None),
    ],
    "path-label": [
        (id_of("/data/k400/train/abseiling/a b"), "/data/k400/train/abseiling/a b.mp4", "train",
         "0", None, None),
        (id_of("rel/x"), "rel/x.mp4", "train", "17", None, None),
        (id_of("/data/k400/val/y"), "/data/k400/val/y.mp4", "val", "3", None, None),
        ("z", "z.mp4", "val", "", None, None),
    ],
}  # fmt: skip
EXPECTED["fx-s1"], EXPECTED["ub-s1"] = EXPECTED["gym99"][:1], EXPECTED["gym99"][1:2]


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, body in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body.encode())
    return folder


def seen(clips: Iterable[Clip]) -> list[tuple[object, ...]]:
    return [(c.id, c.name, c.split, c.label, c.start, c.end) for c in clips]


@pytest.mark.parametrize("name", FILES)
def test_splits_labels_and_times_come_out_right(name: str, tmp_path: Path) -> None:
    """Would catch a wrong split, label, name or time; ids that no list may have or that repeat."""
    clips = list(DATA_SETS[name].read(write(tmp_path, FILES[name]), 1))
    assert seen(clips) == EXPECTED[name]
    rows = [{"id": clip.id, "path": "x", "label": clip.label} for clip in clips]
    assert len(list(video_list.from_mappings(rows, "test"))) == len(clips)
    assert all(set(clip.extra) <= set(DATA_SETS[name].columns) for clip in clips)


def test_further_columns_and_folds(tmp_path: Path) -> None:
    """Would catch the second fold read as the first, and columns that are lost."""
    ucf = write(tmp_path / "u", FILES["ucf101"])
    splits = {clip.id[-7:]: clip.split for clip in DATA_SETS["ucf101"].read(ucf, 3)}
    assert splits == {"g01_c01": "train", "g08_c01": "test"}
    hmdb = write(tmp_path / "h", FILES["hmdb51"])
    (clip,) = DATA_SETS["hmdb51"].read(hmdb, 2)
    assert (clip.name[-5:], clip.split, clip.group) == ("1.avi", "test", "April_09")
    gym = write(tmp_path / "g", GYM99)
    assert [clip.extra for clip in DATA_SETS["gym99"].read(gym, 1)] == [
        {"event": "FX", "set": "21"}, {"event": "UB", "set": "41"}, {"event": "VT", "set": "1"},
    ]  # fmt: skip
    charades = write(tmp_path / "c", FILES["charades"])
    actions = next(iter(DATA_SETS["charades"].read(charades, 1))).extra["actions"]
    assert actions == "c092 11.90 21.20;c147 0.00 12.60;c092 25.00 30.00"


BROKEN = [
    ("kinetics400", "train.csv", "label,youtube_id\n", "train.csv, line 1: .*no time_start, time"),
    ("kinetics400", "train.csv", "+x,-3B32lodo2M,a,9,train\n", "line 4: time 'a' to '9'"),
    ("kinetics400", "train.csv", "+x,-3B32lodo2M,9,8,train\n", "line 4: time '9' to '8'"),
    ("kinetics400", "train.csv", "+x,short,1,8,train\n", "line 4: youtube_id 'short'"),
    ("kinetics400", "train.csv", "+x,-3B32lodo2M,1,8,trian\n", "line 4: split 'trian'"),
    ("kinetics400", "train.csv", "+x,-3B32lodo2M,1\n", "line 4: has 3 fields where .* has 5"),
    ("kinetics400", "train.csv", "+y,---QUuC4vJs,84,94,train\n", "line 4: .* with other values"),
    ("ssv2", "something-something-v2-train.json", '[{"id":\n "1",\n]', "train.json, line 3"),
    ("ssv2", "something-something-v2-train.json", "{}", "not a list"),
    ("ssv2", "something-something-v2-train.json", '[{"id": "5"}]', "entry 1: 5 has no template"),
    ("ssv2", "something-something-v2-train.json", '[{"id": "5", "template": "[x]"}]',
     "entry 1: 'x' is none of the labels"),
    ("ssv2", "test-answers.csv", "+1421,Poking\n", "test-answers.csv, line 2: .*not `id;label`"),
    ("ucf101", "ucfTrainTestlist/trainlist01.txt", "+a/b.avi 1\n", "trainlist01.txt, line 3"),
    ("ucf101", "ucfTrainTestlist/trainlist01.txt", "+ApplyEyeMakeup/v_x_g01_c01.avi 37\n",
     "line 3: class 37 is 'HandstandPushups' in classInd.txt, not 'ApplyEyeMakeup'"),
    ("hmdb51", "testTrainMulti_7030_splits/brush_hair_test_split1.txt", "+x.avi 3\n",
     "brush_hair_test_split1.txt, line 3: 'x.avi 3'"),
    ("gym99", "gym99_val_element.txt", "+x 1\n", "gym99_val_element.txt, line 2"),
    ("gym99", "gym99_val_element.txt", "+0LtLS9wROrk_E_002407_002435_A_0003_0005 7\n",
     "line 2: class 7 is none of the categories"),
    ("gym99", "gym99_val_element.txt", "+0LtLS9wROrk_E_002407_002435_A_0009_0010 6\n",
     "line 2: the annotation info has no such action"),
    ("charades", "Charades_v1_test.csv", "+A,b,c,d,e,f,g,h,i,c0 1 2,3,No\n",
     "line 3: actions 'c0 1 2'"),
    ("charades", "Charades_v1_test.csv", "+A,b,c,d,e,f,g,h,i,c001 1 2,3,No\n",
     "line 3: no such class"),
    ("diving48", "Diving48_V2_test.json", '[{"vid_name": "a", "label": 48}]', "entry 1: class 48"),
    ("path-label", "val.csv", "+no_label.mp4\n", "val.csv, line 3: 'no_label.mp4'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "file", "text", "said"), BROKEN)
def test_what_is_malformed_is_named_by_file_and_line(
    name: str, file: str, text: str, said: str, tmp_path: Path
) -> None:
    """Would catch a row that is skipped, or read as something else; + adds to the good file."""
    files = FILES[name]
    folder = write(tmp_path, files | {file: files[file] + text[1:] if text[0] == "+" else text})
    with pytest.raises(UserError) as caught:
        list(DATA_SETS[name].read(folder, 1))
    message = str(caught.value)
    assert re.search(said, message), message


def test_many_errors_are_one_message_and_absent_files_are_named(tmp_path: Path) -> None:
    """Would catch a screen full of the same, and a traceback for a wrong folder."""
    write(tmp_path, {"train.csv": "x\n" * 5000})
    with pytest.raises(UserError, match="5,000 errors") as caught:
        list(DATA_SETS["path-label"].read(tmp_path, 1))
    assert len(str(caught.value).splitlines()) < 25
    for name, data_set in DATA_SETS.items():
        with pytest.raises(UserError):
            list(data_set.read(tmp_path / "absent", 1))
        if name not in ("path-label",):
            with pytest.raises(UserError):
                list(data_set.read(write(tmp_path / "empty", {"readme.txt": "x"}), 1))


def test_a_folder_per_class_with_and_without_splits(tmp_path: Path) -> None:
    """Would catch a split taken for a class, other files taken for videos, and clashing ids."""
    names = ("jump/a.mp4", "run/a.MP4", "run/sub/b.webm", "run/notes.txt")
    plain = write(tmp_path / "p", dict.fromkeys(names, "x"))
    clips = list(DATA_SETS["folder"].read(plain, 1))
    assert [(clip.name, clip.split, clip.label) for clip in clips] == [
        ("jump/a.mp4", "train", "jump"),
        ("run/a.MP4", "train", "run"),
        ("run/sub/b.webm", "train", "run"),
    ]
    split = write(tmp_path / "s", {f"{part}/{n}": "x" for part in ("train", "Val") for n in names})
    clips = list(DATA_SETS["folder"].read(split, 1))
    assert [(clip.split, clip.label) for clip in clips][::3] == [("val", "jump"), ("train", "jump")]
    assert len({clip.id for clip in clips}) == 6
    write(tmp_path / "p", {"loose.mp4": "x"})
    with pytest.raises(UserError, match="in no class's folder"):
        list(DATA_SETS["folder"].read(plain, 1))
