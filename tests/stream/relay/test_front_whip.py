"""WHIP and WHEP by their checklists: RFC 9725 and draft-ietf-wish-whep."""

import re
from typing import Any

import pytest

from stream.relay.front.app import FrontSettings
from stream.relay.front.fragment import read_fragment
from stream.relay.front.turn import IceServers
from stream.relay.refusal import Refusal
from tests.stream.relay.offers import HOST, MDNS, PASSWORD, TCP, UFRAG, chrome, gstreamer, obs, sdp
from tests.stream.relay.served_front import (
    ANSWER,
    FRAGMENT,
    SDP,
    SECRET,
    Answer,
    Served,
    bearer,
    front,
)

pytestmark = pytest.mark.unit

SPEAKER = obs()
VOICE = chrome("sendonly", ("audio",))
VIEWER = gstreamer("recvonly")


def fragment(*candidates: str, mid: str = "0", ufrag: str = UFRAG) -> str:
    return sdp(
        f"a=ice-ufrag:{ufrag}",
        f"a=ice-pwd:{PASSWORD}",
        "m=audio 9 UDP/TLS/RTP/SAVPF 0",
        f"a=mid:{mid}",
        *[f"a={candidate}" for candidate in candidates],
        "a=end-of-candidates",
    )


# To begin


async def test_a_speaker_is_answered_with_all_that_whip_asks_for() -> None:
    async with front(ice_servers=IceServers(["stun:a.example", "turn:b.example"], "x")) as served:
        answer = await served.begin("/whip/hall/anna", SPEAKER)
        assert answer.text == ANSWER
        assert answer.headers["Content-Type"] == "application/sdp"
        assert re.fullmatch(r"/resource/[\w-]{32}", answer.headers["Location"])
        assert re.fullmatch(r'"[\w-]+"', answer.headers["ETag"])  # strong
        stun, turn = answer.headers.getall("Link")
        assert stun == '<stun:a.example>; rel="ice-server"'
        assert 'credential-type="password"' in turn
        (fields,) = served.rooms.did("publish")
        assert fields.pop("offer").startswith("v=0\r\n")
        assert fields == {
            "speaker": "anna",
            "language": None,
            "resource": answer.headers["Location"].removeprefix("/resource/"),
            "start": True,
        }
        assert served.rooms.asked[0][0] == "hall"
        assert served.statuses == [201]


@pytest.mark.parametrize(
    ("path", "offer", "do", "speaker", "language"),
    [
        ("/whip/hall/anna/de", VOICE, "publish", "anna", "de"),
        ("/whip/hall/floor/pt-br", VOICE, "publish", "floor", "pt-BR"),
        ("/whep/hall/anna", VIEWER, "listen", "anna", None),
        ("/whep/hall/anna/ZH-hant", VIEWER, "listen", "anna", "zh-Hant"),
        ("/whep/hall/anna/de?x=y", VIEWER, "listen", "anna", "de"),
    ],
)
async def test_each_path_has_its_use(
    path: str, offer: str, do: str, speaker: str, language: str | None
) -> None:
    async with front() as served:
        await served.begin(path, offer)
        ((room, done, fields),) = served.rooms.asked
        assert (room, done) == ("hall", do)
        assert (fields["speaker"], fields["language"]) == (speaker, language)
        assert ("start" in fields) == (do == "publish")


async def test_the_room_gets_a_cleaned_offer() -> None:
    async with front() as served:
        await served.begin("/whip/hall/anna", chrome("sendonly"))
        offer = served.rooms.did("publish")[0]["offer"]
        assert "a=candidate:842163049 1 udp 1677729535 192.0.2.10 50001 typ srflx\r\n" in offer
        for absent in (".local", " tcp ", "127.0.0.1", "end-of-candidates", "msid"):
            assert absent not in offer


@pytest.mark.parametrize("allowed", [False, True])
async def test_loopback_is_let_through_by_setting_alone(allowed: bool) -> None:
    async with front(settings=FrontSettings(allow_loopback=allowed)) as served:
        offer = obs().replace("192.0.2.10 50001 typ", "127.0.0.1 50001 typ")
        answer = await served.begin("/whip/hall/anna", offer)
        assert ("127.0.0.1" in served.rooms.did("publish")[0]["offer"]) == allowed
        headers = FRAGMENT | {"If-Match": answer.headers["ETag"]}
        body = fragment("candidate:1 1 udp 1 127.0.0.1 5000 typ host")
        assert (
            await served.ask("PATCH", answer.headers["Location"], data=body, headers=headers)
        ).status == 204
        assert len(served.rooms.did("candidates")) == allowed


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        pytest.param("/whip/hall/anna", SPEAKER, {"Content-Type": "text/plain"}, 415, id="type"),
        pytest.param("/whip/hall/anna", SPEAKER, {"Content-Type": ""}, 415, id="no type"),
        pytest.param("/whip/hall/anna", "", SDP, 400, id="empty"),
        pytest.param("/whip/hall/anna", "hello", SDP, 400, id="no SDP"),
        pytest.param("/whip/hall/anna", SPEAKER + "a=x\r\n" * 20_000, SDP, 413, id="large"),
        pytest.param("/whip/hall/anna", VIEWER, SDP, 422, id="a viewer's"),
        pytest.param("/whip/hall/anna/de", SPEAKER, SDP, 422, id="an interpreter with a camera"),
        pytest.param("/whip/hall/floor/de", SPEAKER, SDP, 422, id="the floor's with a camera"),
        pytest.param("/whep/hall/anna/de", SPEAKER, SDP, 422, id="a speaker's"),
        pytest.param("/whip/hall/floor", SPEAKER, SDP, 404, id="a speaker called floor"),
        pytest.param("/whep/hall/floor/de", VIEWER, SDP, 404, id="listens to the floor"),
        pytest.param("/whip/metrics/anna", SPEAKER, SDP, 404, id="a room called metrics"),
        pytest.param("/whip/hall", SPEAKER, SDP, 404, id="no speaker"),
        pytest.param("/whip/hall/anna/de/x", SPEAKER, SDP, 404, id="too deep"),
        pytest.param("/whip/hall/an.na", SPEAKER, SDP, 404, id="a strange speaker"),
        pytest.param("/whip/hall/anna/d", VOICE, SDP, 404, id="a strange language"),
        pytest.param(f"/whip/{'a' * 65}/anna", SPEAKER, SDP, 404, id="a long room"),
    ],
)
async def test_an_offer_that_is_not_taken_gets_the_status_that_says_why(
    path: str, body: str, headers: dict[str, str], status: int
) -> None:
    async with front() as served:
        answer = await served.refused("POST", path, data=body.encode(), headers=headers)
        assert answer.status == status
        assert served.rooms.asked == []
        assert served.counts.sessions == 0


async def test_what_a_room_refuses_is_passed_on() -> None:
    async with front() as served:
        for refusal, seconds in (
            (Refusal(409, "Nobody speaks yet; try again soon.", 1), "1"),
            (Refusal(503, "The room is full.", 2.4), "3"),
            (Refusal(503, "The room is full.", 0.0), "1"),
            (Refusal(422, "Offer Opus."), None),
        ):
            served.rooms.refusal = refusal
            answer = await served.refused("POST", "/whep/hall/anna", data=VIEWER, headers=SDP)
            assert (answer.status, answer.text) == (refusal.status, refusal.text)
            assert answer.headers.get("Retry-After") == seconds
        assert served.counts.sessions == 0
        assert served.statuses == [409, 503, 503, 422]


async def test_a_session_that_ends_while_it_is_begun_is_refused() -> None:
    async with front() as served:
        served.rooms.before_answer = lambda resource: served.rooms.told(resource)
        answer = await served.refused("POST", "/whep/hall/anna", data=VIEWER, headers=SDP)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


async def test_a_relay_that_stops_takes_nobody_new_and_keeps_the_others() -> None:
    async with front() as served:
        before = await served.begin("/whip/hall/anna", SPEAKER)
        served.rooms.draining = True
        answer = await served.refused("POST", "/whep/hall/anna", data=VIEWER, headers=SDP)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert (await served.ask("GET", before.headers["Location"])).status == 204
        assert (await served.ask("DELETE", before.headers["Location"])).status == 200


async def test_a_full_relay_forgets_sessions_of_rooms_that_died() -> None:
    async with front(settings=FrontSettings(most_sessions=3)) as served:
        served.rooms.states["hall"] = {"room": "hall"}
        for n in range(3):
            await served.begin(f"/whip/hall/speaker{n}", SPEAKER)
        answer = await served.refused("POST", "/whip/other/anna", data=SPEAKER, headers=SDP)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        del served.rooms.states["hall"]
        await served.begin("/whip/other/anna", SPEAKER)
        assert served.counts.sessions == 1


async def test_a_room_elsewhere_is_told_by_307() -> None:
    base = {"far": "https://two.example/"}
    async with front(redirect=base.get) as served:
        answer = await served.ask("POST", "/whip/far/anna/de?token=x", data=VOICE, headers=SDP)
        assert answer.status == 307
        assert answer.headers["Location"] == "https://two.example/whip/far/anna/de?token=x"
        assert served.rooms.asked == []
        await served.begin("/whip/near/anna", SPEAKER)


# While it lasts


async def begun(served: Served) -> tuple[str, dict[str, str], Answer]:
    answer = await served.begin("/whip/hall/anna", SPEAKER)
    headers = FRAGMENT | {"If-Match": answer.headers["ETag"]}
    return answer.headers["Location"], headers, answer


async def test_candidates_are_trickled() -> None:
    async with front() as served:
        resource, headers, _ = await begun(served)
        body = fragment(HOST, MDNS, TCP, HOST)
        answer = await served.ask("PATCH", resource, data=body, headers=headers)
        assert (answer.status, answer.body) == (204, b"")
        assert served.rooms.did("candidates") == [
            {
                "resource": resource.removeprefix("/resource/"),
                "mid": "0",
                "lines": ["candidate:842163049 1 udp 1677729535 192.0.2.10 50001 typ srflx"],
            }
        ]
        # What can't be used is accepted and left out; so is what is for a transport given up.
        for body in (fragment(MDNS), fragment(), fragment(HOST, mid="1"), "a=end-of-candidates"):
            answer = await served.ask("PATCH", resource, data=body, headers=headers)
            assert answer.status == 204
        assert len(served.rooms.did("candidates")) == 1


BROKEN = HOST.replace("50001", "port")


@pytest.mark.parametrize(
    ("body", "changes", "status"),
    [
        pytest.param(fragment(HOST), {"If-Match": None}, 428, id="no tag"),
        pytest.param(fragment(HOST), {"If-Match": '"other"'}, 412, id="another tag"),
        pytest.param(fragment(HOST), {"If-Match": "W/{}"}, 412, id="a weak tag"),
        pytest.param(fragment(HOST), {"If-Match": "nonsense"}, 412, id="no real tag"),
        pytest.param(fragment(HOST), {"If-Match": '"other", {}'}, 204, id="one of the tags"),
        pytest.param(fragment(HOST), {"Content-Type": "application/sdp"}, 415, id="type"),
        pytest.param("", {}, 400, id="empty"),
        pytest.param("hello", {}, 400, id="no fragment"),
        pytest.param(SPEAKER, {}, 400, id="an offer"),
        pytest.param(fragment(BROKEN), {}, 400, id="malformed"),
        pytest.param(fragment(HOST, mid="9"), {}, 400, id="another mid"),
        pytest.param(fragment(HOST).replace("a=mid:0", "a=x"), {}, 400, id="no mid"),
        pytest.param(fragment(HOST).replace("m=audio 9", "m=audio"), {}, 400, id="an m-line"),
        pytest.param(fragment(*[HOST] * 51), {}, 400, id="51 candidates"),
        pytest.param(fragment(HOST) + "ü", {}, 400, id="not ASCII"),
        pytest.param(fragment(HOST) + "a=x\r\n" * 20_000, {}, 413, id="large"),
        pytest.param(fragment(HOST, ufrag="new1"), {}, 422, id="a restart"),
        pytest.param(fragment(ufrag="new1"), {"If-Match": "*"}, 422, id="a restart to the letter"),
        pytest.param(fragment(), {"If-Match": "*"}, 422, id="a restart with the old name"),
    ],
)
async def test_a_patch_gets_the_status_that_says_what_it_was(
    body: str, changes: dict[str, str | None], status: int
) -> None:
    async with front() as served:
        resource, headers, begin = await begun(served)
        for name, value in changes.items():
            headers.pop(name)
            if value is not None:
                headers[name] = value.format(begin.headers["ETag"])
        ask = served.ask if status == 204 else served.refused
        answer = await ask("PATCH", resource, data=body.encode(), headers=headers)
        assert answer.status == status
        assert len(served.rooms.did("candidates")) == (status == 204)
        # Whatever it was, the session lives on.
        headers |= FRAGMENT | {"If-Match": begin.headers["ETag"]}
        answer = await served.ask("PATCH", resource, data=fragment(HOST), headers=headers)
        assert answer.status == 204


def test_candidates_without_a_medium_or_a_user_are_for_the_session() -> None:
    offered: dict[str, Any] = {"mid": "a", "mids": ("a", "b"), "ufrag": UFRAG}
    read = read_fragment(f"a={HOST}".encode(), **offered)
    assert (len(read.candidates), read.restarts) == (1, False)
    other = fragment(HOST, mid="b", ufrag="own1").encode()  # of a transport that BUNDLE gave up
    assert read_fragment(other, **offered).candidates == ()
    assert not read_fragment(other, **offered).restarts


async def test_a_session_ends_by_delete_whatever_its_tag() -> None:
    async with front() as served:
        resource, _, _ = await begun(served)
        headers = {"If-Match": '"other"'}
        assert (await served.ask("DELETE", resource, headers=headers)).status == 200
        assert served.rooms.did("end") == [{"resource": resource.removeprefix("/resource/")}]
        assert served.counts.sessions == 0
        for method in ("DELETE", "PATCH", "GET"):
            assert (await served.refused(method, resource)).status == 404


async def test_delete_is_granted_though_the_room_is_gone() -> None:
    async with front() as served:
        resource, _, _ = await begun(served)
        served.rooms.refusal = Refusal(404, "There is no such room.")
        assert (await served.ask("DELETE", resource)).status == 200


async def test_a_session_that_ended_by_itself_is_known_no_more() -> None:
    async with front() as served:
        resource, headers, _ = await begun(served)
        served.rooms.told("unknown")
        assert (await served.ask("GET", resource)).status == 204
        served.rooms.told(resource.removeprefix("/resource/"))
        answer = await served.refused("PATCH", resource, data=fragment(HOST), headers=headers)
        assert answer.status == 404
        resource, headers, _ = await begun(served)
        served.rooms.refusal = Refusal(404, "There is no such session.")
        answer = await served.refused("PATCH", resource, data=fragment(HOST), headers=headers)
        assert (answer.status, served.counts.sessions) == (404, 0)


# What else an endpoint says


@pytest.mark.parametrize("path", ["/whip/hall/anna", "/whip/hall/anna/de", "/whep/hall/anna/de"])
async def test_an_endpoint_says_what_it_takes(path: str) -> None:
    async with front() as served:
        options = await served.ask("OPTIONS", path)
        assert (options.status, options.headers["Accept-Post"]) == (200, "application/sdp")
        assert "POST" in options.headers["Allow"]
        assert "Link" not in options.headers
        get = await served.ask("GET", path)
        assert (get.status, get.body) == (204, b"")
        head = await served.ask("HEAD", path)
        assert (head.status, head.headers["Content-Type"]) == (200, "application/sdp")
        for method in ("PUT", "PATCH", "DELETE", "PROPFIND"):
            answer = await served.refused(method, path)
            assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD,OPTIONS,POST")


async def test_a_session_says_what_it_takes() -> None:
    async with front() as served:
        resource, _, _ = await begun(served)
        options = await served.ask("OPTIONS", resource)
        assert options.status == 200
        assert options.headers["Accept-Patch"] == "application/trickle-ice-sdpfrag"
        assert (await served.ask("GET", resource)).status == 204
        for method in ("POST", "PUT"):
            answer = await served.refused(method, resource)
            assert (answer.status, answer.headers["Allow"]) == (
                405,
                "DELETE,GET,HEAD,OPTIONS,PATCH",
            )


# Tokens


@pytest.mark.parametrize(
    ("path", "offer", "act"),
    [
        ("/whip/hall/anna", SPEAKER, "publish-speaker"),
        ("/whip/hall/anna/de", VOICE, "publish-language"),
        ("/whip/hall/floor/de", VOICE, "publish-language"),
        ("/whep/hall/anna", VIEWER, "listen"),
        ("/whep/hall/anna/de", VIEWER, "listen"),
    ],
)
async def test_each_use_needs_its_right(path: str, offer: str, act: str) -> None:
    others = {"publish-speaker", "publish-language", "listen", "admin"} - {act}
    async with front(secret=SECRET) as served:
        await served.begin(path, offer, **bearer(act))
        assert len(served.rooms.asked) == 1
        for headers, status in (
            ({}, 401),
            ({"Authorization": "Bearer x"}, 401),
            ({"Authorization": "Basic eDp5"}, 401),
            ({"Authorization": "Bearer"}, 401),
            (bearer(*others), 403),
            (bearer(act, room="other"), 403),
            (bearer(act, speaker="ben"), 403),
        ):
            answer = await served.refused("POST", path, data=offer, headers=SDP | headers)
            assert answer.status == status
            assert ("WWW-Authenticate" in answer.headers) == (status == 401)
            for method in ("GET", "HEAD"):
                assert (await served.ask(method, path, headers=headers)).status == status
        assert len(served.rooms.asked) == 1
        assert (await served.ask("GET", path, headers=bearer(act))).status == 204
        assert (await served.ask("OPTIONS", path)).status == 200  # needs none


async def test_a_session_needs_a_token_of_its_room() -> None:
    async with front(secret=SECRET) as served:
        begin = await served.begin("/whip/hall/anna", SPEAKER, **bearer("publish-speaker"))
        resource = begin.headers["Location"]
        headers = FRAGMENT | {"If-Match": begin.headers["ETag"]}
        for token, status in (({}, 401), (bearer("listen", room="other"), 403)):
            for method in ("PATCH", "DELETE", "GET"):
                answer = await served.refused(
                    method, resource, data=fragment(HOST), headers=headers | token
                )
                assert answer.status == status
        token = bearer("listen")
        for method, status in (("PATCH", 204), ("GET", 204), ("DELETE", 200)):
            answer = await served.ask(
                method, resource, data=fragment(HOST), headers=headers | token
            )
            assert answer.status == status


async def test_a_client_that_can_only_set_a_url_puts_its_token_there() -> None:
    async with front(secret=SECRET) as served:
        token = bearer("publish-speaker")["Authorization"].removeprefix("Bearer ")
        begin = await served.begin(f"/whip/hall/anna?token={token}", SPEAKER)
        location = begin.headers["Location"]
        assert location.endswith(f"?token={token}")
        assert (await served.ask("DELETE", location)).status == 200
        wrong = await served.refused(
            "POST",
            f"/whip/hall/anna?token={token}",
            data=SPEAKER,
            headers=SDP | {"Authorization": "Bearer x"},
        )
        assert wrong.status == 401  # the header counts
        assert (
            "?"
            not in (
                await served.begin("/whip/hall/anna", SPEAKER, **bearer("publish-speaker"))
            ).headers["Location"]
        )


# Pages of other sites

FOREIGN = {"Origin": "https://studio.example"}
PREFLIGHT = FOREIGN | {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}


async def test_with_tokens_any_site_may_use_whip_and_whep() -> None:
    async with front(secret=SECRET) as served:
        for path in ("/whip/hall/anna", "/resource/x"):
            preflight = await served.ask("OPTIONS", path, headers=PREFLIGHT)
            assert preflight.status == 200
            assert preflight.headers["Access-Control-Allow-Origin"] == "*"
            assert "Access-Control-Allow-Credentials" not in preflight.headers
            for name in ("POST", "PATCH", "DELETE"):
                assert name in preflight.headers["Access-Control-Allow-Methods"]
            for name in ("Authorization", "Content-Type", "If-Match"):
                assert name in preflight.headers["Access-Control-Allow-Headers"]
        answer = await served.begin("/whep/hall/anna", VIEWER, **bearer("listen"), **FOREIGN)
        exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
        assert {"Location", "Link", "ETag", "Retry-After"} <= {*exposed}
        for method, path in (
            ("POST", "/whep/hall/anna"),
            ("GET", "/resource/x"),
            ("GET", "/whip/"),
        ):
            refused = await served.refused(method, path, headers=FOREIGN)
            assert refused.headers["Access-Control-Allow-Origin"] == "*"  # so that it can be read
        for path in ("/api/rooms/hall/state", "/api/config"):
            answer = await served.ask("GET", path, headers=FOREIGN | bearer("listen"))
            assert answer.status == 200
            assert not [name for name in answer.headers if name.startswith("Access-Control")]
        path = "/api/rooms/hall/admin"
        assert (await served.refused("OPTIONS", path, headers=PREFLIGHT)).status == 405


async def test_without_tokens_only_our_page_and_named_sites_may() -> None:
    named = FrontSettings(allowed_origins=frozenset({"https://studio.example"}))
    for settings, status in ((FrontSettings(), 403), (named, 201)):
        async with front(settings=settings) as served:
            answer = await served.ask("POST", "/whep/hall/anna", data=VIEWER, headers=SDP | FOREIGN)
            assert answer.status == status
            preflight = await served.ask("OPTIONS", "/whep/hall/anna", headers=PREFLIGHT)
            for headers in (answer.headers, preflight.headers):
                allowed = headers.get("Access-Control-Allow-Origin")
                assert allowed == (FOREIGN["Origin"] if status == 201 else None)
            await served.begin("/whep/hall/anna", VIEWER, Origin=served.url)
            await served.begin("/whep/hall/anna", VIEWER)  # no browser
            other = SDP | {"Origin": "https://evil.example"}
            refused = await served.refused("POST", "/whep/hall/anna", data=VIEWER, headers=other)
            assert refused.status == 403
