"""Foreign words: secrets vanish, harmless words stay, and the line is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serval_operator.api.text import last_line, scrub

pytestmark = pytest.mark.unit

SECRET = "hunTer2hunter2"


class TestSecrets:
    @pytest.mark.parametrize(
        ("text", "scrubbed"),
        [
            (f"GET https://bob:{SECRET}@host/x failed", "GET https://***@host/x failed"),
            (f"https://bob:p@{SECRET}@host/x", "https://***@host/x"),
            (f"https://{SECRET}@host", "https://***@host"),
            (f"Authorization: Bearer {SECRET}.a-b_c~d+e/f==", "Authorization: Bearer ***"),
            (f"authorization: basic {SECRET}=", "authorization: basic ***"),
            ("bearer abcdefghijklmnopqrstuvwxyz", "bearer ***"),
            (f"https://a.blob/x?sv=1&sig={SECRET}%3D&se=2", "https://a.blob/x?sv=1&sig=***&se=2"),
            (f"AccountName=a;AccountKey={SECRET}==;Suffix=x", "AccountName=a;AccountKey=***;Suffix=x"),
            (f"SharedAccessKey={SECRET}", "SharedAccessKey=***"),
            (f"AWS_SECRET_ACCESS_KEY={SECRET}/1", "AWS_SECRET_ACCESS_KEY=***"),
            (f"?X-Amz-Security-Token={SECRET}&a=1", "?X-Amz-Security-Token=***&a=1"),
            (f"?X-Goog-Signature={SECRET}&a=1", "?X-Goog-Signature=***&a=1"),
            (f"password: {SECRET}, user: bob", "password: ***, user: bob"),
            (f"password = '{SECRET} and more'", "password = ***"),
            (f'{{"password": "{SECRET} and more", "a": 1}}', '{"password": ***, "a": 1}'),
            (f'{{\\"token\\":\\"{SECRET}\\"}}', '{\\"token\\":***}'),
            (f"client_secret={SECRET}", "client_secret=***"),
            (f"clientSecret={SECRET}", "clientSecret=***"),
            (f"api-key: {SECRET}", "api-key: ***"),
            (f"pwd={SECRET};", "pwd=***;"),
        ],
    )
    def test_vanish(self, text: str, scrubbed: str) -> None:
        assert scrub(text) == scrubbed

    def test_vanish_across_lines(self) -> None:
        assert scrub(f"password:\n\t{SECRET}\nnext") == "password: *** next"

    @given(st.text(alphabet=st.characters(categories=("L", "N"), max_codepoint=127), min_size=8, max_size=60))
    def test_no_value_of_a_signature_stays(self, value: str) -> None:
        assert scrub(f"403 for https://a/b?sv=1&sig={value}&se=2") == "403 for https://a/b?sv=1&sig=***&se=2"


class TestHarmless:
    @pytest.mark.parametrize(
        "text",
        [
            (
                "0/3 nodes are available: 1 Insufficient nvidia.com/gpu, 2 node(s) had untolerated taint(s). "
                "preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod."
            ),
            'MountVolume.SetUp failed for volume "ca" : configmap "store-ca" not found',
            'secret "registry-token" not found',
            "Basic authentication is required",
            'WWW-Authenticate: Basic realm="registry"',
            "bearer token missing",
            "the token expired",
            "design=modern",
            "KeyError: 'sig'",
            "see https://host/path and ask me@example.com",
            'failed to resolve reference "r.example:5000/serval-server:1": not found',
            "1 servable(s) did not become available: {{{name: m version: 1} due to error: NOT_FOUND: x}}",
        ],
    )
    def test_stays(self, text: str) -> None:
        assert scrub(text) == text


class TestForm:
    def test_is_one_line(self) -> None:
        assert scrub("  a\n\tb\r\n c  ") == "a b c"

    def test_has_no_control_characters(self) -> None:
        assert scrub("\x1b[31mred\x1b[0m\x00\ud800 end") == "[31mred [0m end"

    @pytest.mark.parametrize(
        ("length", "end"), [(9, "xxx"), (10, "xxx"), (11, "xx…")], ids=["under", "at", "over"]
    )
    def test_is_cut_at_the_limit(self, length: int, end: str) -> None:
        text = scrub("x" * length, 10)
        assert len(text) == min(length, 10)
        assert text.endswith(end)

    @given(st.text())
    def test_is_always_a_bounded_printable_line(self, text: str) -> None:
        line = scrub(text, 50)
        assert len(line) <= 50
        assert line.isprintable()
        line.encode()  # can be stored

    @pytest.mark.timeout(20)
    @pytest.mark.parametrize("piece", ["a-", "token", "://a", "bearer ", 'token="'])
    def test_takes_time_in_proportion_to_length(self, piece: str) -> None:
        assert len(scrub(piece * 100_000)) <= 1024


class TestLastLine:
    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("", ""),
            ("\n \n", ""),
            ("one", "one"),
            ("one\ntwo\n", "two"),
            ("one\n  two  \n\n \n", "two"),
            ("one\npassword=x1", "password=***"),
        ],
    )
    def test_of_a_log(self, text: str, line: str) -> None:
        assert last_line(text) == line
