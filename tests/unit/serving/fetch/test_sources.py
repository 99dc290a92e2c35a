from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serval_serving.fetch.errors import FetchError
from serval_serving.fetch.oci.reference import ImageReference
from serval_serving.fetch.sources import HttpsSource, parse_https, public_uri
from serval_serving.fetch.stores import store_of
from serval_serving.fetch.stores.azureblob import AzureBlobStore
from serval_serving.fetch.stores.bucket import BucketStore
from serval_serving.fetch.stores.gs import GsBucketStore
from serval_serving.fetch.stores.https import HttpsStore
from serval_serving.fetch.stores.oci import ImageStore
from serval_serving.fetch.stores.pvc import ClaimStore
from serval_serving.fetch.stores.s3 import S3BucketStore


@pytest.mark.parametrize(
    ("uri", "host", "port", "target", "authority"),
    [
        ("https://models.example/a.tgz", "models.example", 443, "/a.tgz", "models.example"),
        ("HTTPS://models.example", "models.example", 443, "/", "models.example"),
        ("https://h:8443/a?sig=x%2F#part", "h", 8443, "/a?sig=x%2F", "h:8443"),
        ("https://[2001:db8::1]:444/a", "2001:db8::1", 444, "/a", "[2001:db8::1]:444"),
        ("https://10.89.0.1/a", "10.89.0.1", 443, "/a", "10.89.0.1"),
    ],
)
def test_https(uri: str, host: str, port: int, target: str, authority: str) -> None:
    store = store_of(uri)
    assert store == HttpsStore(HttpsSource(host, port, target, uri))
    assert isinstance(store, HttpsStore)
    assert store.source.authority == authority


@pytest.mark.parametrize(
    ("uri", "claim", "parts"),
    [
        ("pvc://models/resnet/3", "models", ("resnet", "3")),
        ("pvc://models", "models", ()),
        ("pvc://models/", "models", ()),
        ("pvc://models//a/./b/", "models", ("a", "b")),
        ("pvc://models/a%20b", "models", ("a b",)),
    ],
)
def test_volume(uri: str, claim: str, parts: tuple[str, ...]) -> None:
    assert store_of(uri) == ClaimStore(claim, parts)


@pytest.mark.parametrize(
    ("uri", "store"),
    [
        ("azureblob://acct1/models/resnet/3", AzureBlobStore("models", "resnet/3", "acct1")),
        ("azureblob://acct1/$root/", AzureBlobStore("$root", "", "acct1")),
        ("s3://models/a%20b//c/", S3BucketStore("models", "a b/c")),
        ("S3://models", S3BucketStore("models", "")),
        ("gs://my_models.example/x.tar.gz", GsBucketStore("my_models.example", "x.tar.gz")),
    ],
)
def test_store(uri: str, store: BucketStore) -> None:
    assert store_of(uri) == store


@pytest.mark.parametrize(
    ("uri", "image"),
    [
        ("oci://r.test/a/b:v1", ImageReference("r.test", "a/b", "v1", "")),
        ("oci://r.test:5000/a", ImageReference("r.test:5000", "a", "latest", "")),
        (f"oci://r.test/a@sha256:{'0' * 64}", ImageReference("r.test", "a", "", f"sha256:{'0' * 64}")),
        (f"oci://r.test/a:t@sha256:{'0' * 64}", ImageReference("r.test", "a", "t", f"sha256:{'0' * 64}")),
    ],
)
def test_image(uri: str, image: ImageReference) -> None:
    assert store_of(uri) == store_of(image.uri) == ImageStore(image)


def test_plain_http_only_where_it_was_allowed() -> None:
    assert parse_https("http://cache:8080/x", plain=True).authority == "cache:8080"
    assert parse_https("http://cache/x", plain=True).port == 80
    assert parse_https("https://cache/x", plain=True).plain is False


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("file:///etc/passwd", "ModelNotFound"),
        ("http://h/a", "ModelNotFound"),
        ("gopher://h/a", "ModelNotFound"),
        ("", "ModelNotFound"),
        ("https://", "ModelNotFound"),
        ("https:///a", "ModelNotFound"),
        ("https://h:99999/a", "ModelNotFound"),
        ("https://h:x/a", "ModelNotFound"),
        ("https://[::1/a", "ModelNotFound"),
        ("https://h/a b", "ModelNotFound"),
        ("https://h\\@evil/a", "ModelNotFound"),
        ("https://h/a\r\nHost: evil", "ModelNotFound"),
        ("https://bücher.example/a", "ModelNotFound"),
        ("https://user:SECRET@h/a", "ModelAccessDenied"),
        ("https://SECRET@h/a", "ModelAccessDenied"),
        ("pvc:///a", "ModelNotFound"),
        ("pvc://c/../x", "ModelNotFound"),
        ("pvc://c/a/%2e%2e/x", "ModelNotFound"),
        ("pvc://c/a/%2E./x", "ModelNotFound"),
        ("pvc://c/a%5cb", "ModelNotFound"),
        ("pvc://c/a%00b", "ModelNotFound"),
        ("pvc://c/a?b", "ModelNotFound"),
        ("azureblob://acct1", "ModelNotFound"),
        ("azureblob://acct1/", "ModelNotFound"),
        ("azureblob://acct1.evil.test/models/x", "ModelNotFound"),
        ("azureblob://AC/models/x", "ModelNotFound"),
        ("azureblob://user:SECRET@acct1/models/x", "ModelNotFound"),
        ("s3://", "ModelNotFound"),
        ("s3://models/../x", "ModelNotFound"),
        ("s3://a..b/x", "ModelNotFound"),
        ("s3://user:SECRET@models/x", "ModelNotFound"),
        ("s3://models/x?versionId=SECRET", "ModelNotFound"),
        ("gs://models/%2e%2e/x", "ModelNotFound"),
        ("gs://-models/x", "ModelNotFound"),
        ("oci://r.test", "ModelNotFound"),
        ("oci://r.test/A", "ModelNotFound"),
        ("oci://r.test/a/../b", "ModelNotFound"),
        ("oci://r.test/a:", "ModelNotFound"),
        ("oci://r.test/a@sha256:0", "ModelNotFound"),
        ("oci://user:SECRET@r.test/a", "ModelNotFound"),
    ],
)
def test_bad_uris(uri: str, reason: str) -> None:
    with pytest.raises(FetchError) as caught:
        store_of(uri)
    assert (caught.value.reason, caught.value.permanent) == (reason, True)
    assert "SECRET" not in caught.value.message


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://h:1/a/b?sig=SECRET#x", "https://h:1/a/b"),
        ("https://u:SECRET@h/a", "https://h/a"),
        ("https://u:SECRET@other@h/a", "https://h/a"),
        ("https://u:SECRET/x@h/a", "https://(unreadable)"),
        ("https://u:SECRET?x@h/a", "https://(unreadable)"),
        ("pvc://claim/a", "pvc://claim/a"),
        ("SECRET", "(unreadable)"),
    ],
)
def test_public_uri(uri: str, shown: str) -> None:
    assert public_uri(uri) == shown


@given(user=st.text(), query=st.text(), tail=st.text(max_size=3))
def test_public_uri_hides_secrets_and_never_fails(user: str, query: str, tail: str) -> None:
    uri = f"https://{user}:S3CR3T{tail}@h.example/model.tgz?sig=S3CR3T{query}"
    assert "S3CR3T" not in public_uri(uri) or "/" in user
    public_uri(query)
