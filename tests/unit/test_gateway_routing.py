"""Which handler a path leads to."""

from __future__ import annotations

import pytest

from gateway.problems import MalformedPath, MethodNotAllowed, UnknownPath
from gateway.routing import Router, Template

ROUTES = [
    ("GET", "/things"),
    ("POST", "/things"),
    ("GET", "/things/{thing_id}"),
    ("DELETE", "/things/{thing_id}"),
    ("POST", "/things/{thing_id}/stop"),
    ("POST", "/things/batch"),
    ("POST", "/things/simulate"),
    ("GET", "/things/{thing_id}/parts/{part.id}"),
    ("GET", "/"),
]


@pytest.fixture
def router() -> Router[str]:
    router: Router[str] = Router()
    for method, template in ROUTES:
        router.add(method, Template(template if template != "/" else "/root"), f"{method} {template}")
    return router


@pytest.mark.parametrize(
    ("method", "path", "target", "values"),
    [
        ("GET", b"/things", "GET /things", []),
        ("HEAD", b"/things", "GET /things", []),
        ("GET", b"/things/a", "GET /things/{thing_id}", ["a"]),
        ("DELETE", b"/things/a", "DELETE /things/{thing_id}", ["a"]),
        ("POST", b"/things/a/stop", "POST /things/{thing_id}/stop", ["a"]),
        ("POST", b"/things/a:b/stop", "POST /things/{thing_id}/stop", ["a:b"]),
        ("POST", b"/things/batch", "POST /things/batch", []),
        ("GET", b"/things/a%3Ab", "GET /things/{thing_id}", ["a:b"]),
        ("POST", b"/things/simulate", "POST /things/simulate", []),
        ("GET", b"/things/a%20b", "GET /things/{thing_id}", ["a b"]),
        ("GET", b"/things/%C3%A9", "GET /things/{thing_id}", ["é"]),
        ("GET", b"/things/a/parts/b", "GET /things/{thing_id}/parts/{part.id}", ["a", "b"]),
    ],
)
def test_a_path_leads_to_its_handler(router, method, path, target, values):
    assert router.find(method, path) == (target, values)


@pytest.mark.parametrize("path", [b"/", b"/thing", b"/things/a/b", b"/THINGS", b"/things:", b"/*"])
def test_a_path_that_leads_nowhere_is_unknown(router, path):
    with pytest.raises(UnknownPath):
        router.find("GET", path)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", b"/things", "GET, HEAD, POST"),
        ("TRACE", b"/things", "GET, HEAD, POST"),
        ("POST", b"/things/a", "DELETE, GET, HEAD"),
        ("GET", b"/things/a/stop", "POST"),
        ("get", b"/things/a/stop", "POST"),
    ],
)
def test_a_method_the_path_does_not_take_is_told_which_it_takes(router, method, path, allow):
    with pytest.raises(MethodNotAllowed) as refusal:
        router.find(method, path)
    assert refusal.value.headers["Allow"] == allow


@pytest.mark.parametrize(
    "path",
    [
        b"//things",
        b"/things/",
        b"/things//a",
        b"/things/.",
        b"/things/..",
        b"/things/%2e%2e",
        b"/things/%2e%2E%2fadmin",
        b"/things/a%2Fb",
        b"/things/a%5Cb",
        b"/things/a%00",
        b"/things/a%0d%0aX: y",
        b"/things/%E2%80%AEa",  # a right-to-left mark
        b"/things/%ff",
        b"/things/%zz",
        b"/things/%",
        b"/things/\xff",
        b"things",
        b"*",
        b"http://elsewhere/things",
        b"/" + b"a" * 3000,
    ],
)
def test_a_path_that_could_be_read_in_two_ways_is_refused(router, path):
    with pytest.raises(MalformedPath):
        router.find("GET", path)


@pytest.mark.parametrize(
    "template", ["things", "/{a}b", "/a/{b=**}", "/{a:b}", "/{}", "/a b", "/{a}:x", "/a:x", "/{A}"]
)
def test_a_template_that_is_not_carried_is_refused_at_the_start(template):
    with pytest.raises(ValueError, match=r"path template|route"):
        Template(template)


def test_two_routes_in_one_place_are_refused_at_the_start(router):
    with pytest.raises(ValueError, match="two routes"):
        router.add("GET", Template("/things/{other_id}"), "twice")
