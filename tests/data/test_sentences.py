"""The sentence splitter: Turkish cases by hand, nothing lost on any text, linear time."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turkbert.data.sentences import sentence_ends, split_sentences


@pytest.mark.parametrize(
    "text",
    [
        # "|" stands where one sentence ends and the next begins
        "Geldi.| Gördü!| Yendi mi?| Evet…| Bitti.",
        "Prof. Dr. Ayşe Ak, Yrd.Doç.Dr. Can Er ve Av. Ali Su geldi.| Toplantı başladı.",
        "Atatürk Cad. No. 5 adresinde.| Bkz. Ek 2.",
        "Elma, armut vb.| Ancak muz yoktu.",
        "Biz gittik, kim bilir kim.| Onlar kaldı.",
        "Olay 19. yüzyılda oldu.| Sonra 20. Yüzyıl başladı.",
        "II. Mahmut ve XIV. Louis çağdaş değildir.| Doğru.",
        "Toplantı 12. Kat'ta, 29.10.1923 günü yapıldı.| Karar 1923.| Sonra dağıldılar.",
        "M. Kemal Paşa ve A.B.D. Başkanı konuştu.| T.C. Anayasası okundu.",
        "Oran yüzde 10.| Lisans mezunlarında düşük.",
        "Yaş sınırı artık 18.| 70 yaşındakiler de gelsin.",
        "Desteğin 3. 4. ve 5. Bölgelerde artması iyi.",
        "1. 2 yumurta kırın.\n|2. 75 gr soğan ekleyin.",
        '"Gel!" dedi.| "Gelmem."| Sonra sustu.',
        "“Geldim.”| Annesi sevindi.| «Hoş geldin!»| (Uzun sürdü.)| Bitti.",
        'Dedi ki " Geldim . "| Sonra " sustu " .| Bitti .',
        "— Nereye?| — Eve!| - Dur.| – Olmaz.",
        "Düşündü... sonra güldü.| Bekledi...| Kimse gelmedi.",
        "Öyle mi?!| Olamaz!!!| Neden?..| Bilmem.",
        "Pi 3.14 eder, nüfus 1.250.000 oldu.| Saat 19.30'da başla.| %5 arttı.",
        "Bkz. www.ornek.com.tr/a.html?b=1.C adresi.| Dosya adı a.txt idi.",
        "Malzemeler hazır.| * un ve su.| • şeker",
        "Başlık\n|İlk satır ve\r\n|ikinci satır\r|üçüncü.\n\n|Son.",
        "Şöyle: âlem güzeldir.| Âlem büyüktür.| Îman ve ümit.| Ilık.| İyi.",
    ],
)
def test_turkish_cases(text):
    assert split_sentences(text.replace("|", "")) == [sentence.strip() for sentence in text.split("|")]


@pytest.mark.parametrize("text", ["", " ", "\n\r\n \t", "\u00a0\n"])
def test_nothing_to_split(text):
    assert split_sentences(text) == sentence_ends(text) == []


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        (".", ["."]),
        (". A", [".", "A"]),
        (". a", [". a"]),
        (" Dr. Ak ", ["Dr. Ak"]),
        ("A.\n.A", ["A.", ".A"]),
        ("5. Gün", ["5. Gün"]),
    ],
)
def test_edges(text, sentences):
    assert split_sentences(text) == sentences


def test_ends_are_offsets_after_the_last_character():
    text = " Dr. Ak geldi.  Oturdu \n Kalktı."
    assert sentence_ends(text) == [14, 22, 32]
    assert [text[end - 1] for end in sentence_ends(text)] == [".", "u", "."]


pieces = st.sampled_from([*".!?…\"'”“»«)(-—*•%`,:", "\n", "\r", " ", "\u00a0", "''", "Dr", "vb", "19", "yüzde", "II"])
texts = st.lists(pieces | st.text(alphabet="aAıIİşŞâÂ1\u0307\u2028", max_size=4), max_size=40).map("".join)


@given(texts | st.text())
def test_no_character_is_lost_or_added(text):
    sentences, ends = split_sentences(text), sentence_ends(text)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(sentence and sentence == sentence.strip() for sentence in sentences)
    assert not any("\n" in sentence or "\r" in sentence for sentence in sentences)
    assert len(ends) == len(sentences) and ends == sorted(set(ends))
    starts = [0, *ends]
    assert [text[start:end].strip() for start, end in zip(starts, ends, strict=False)] == sentences


@given(texts)
def test_sentences_are_runs_of_the_text(text):
    position = 0
    for sentence in split_sentences(text):
        found = text.index(sentence, position)
        assert not text[position:found].strip()
        position = found + len(sentence)


@pytest.mark.parametrize(
    "unit", [".", "…!?", '"', " ", "\n", "A", ". ", '."', '. "', ' " . " A', "?)(", ". (", "5. ", "A.", ". - ", ". 1"]
)
def test_time_is_linear(unit):
    def seconds(size: int) -> float:
        text = unit * (size // len(unit))
        start = time.process_time()
        split_sentences(text)
        return time.process_time() - start

    # Eight times the text: a quadratic step would cost 64 times (minutes), so the wide bound is a sharp one.
    assert seconds(1_000_000) < 30 * max(seconds(125_000), 0.005)
