"""Offers as the programs that people use write them, and offers with mistakes."""

import random

FINGERPRINT = ":".join(f"{n:02X}" for n in range(32))
UFRAG, PASSWORD = "hXq3", "8vCkUy1QZb5rT0aWn2LpEd4M"

HOST = "candidate:842163049 1 udp 1677729535 192.0.2.10 50001 typ srflx raddr 0.0.0.0 rport 0"
MDNS = "candidate:1 1 udp 2122260223 5b2b8a5e-0f1e-4a41-9f27-1d2a54c8ab11.local 50001 typ host"
TCP = "candidate:2 1 tcp 1518280447 192.0.2.10 9 typ host tcptype active"


def sdp(*lines: str) -> str:
    return "\r\n".join(lines) + "\r\n"


_AUDIO_CODECS = (
    "a=rtpmap:111 opus/48000/2",
    "a=rtcp-fb:111 transport-cc",
    "a=fmtp:111 minptime=10;useinbandfec=1",
    "a=rtpmap:63 red/48000/2",
    "a=fmtp:63 111/111",
    "a=rtpmap:0 PCMU/8000",
    "a=rtpmap:110 telephone-event/48000",
)
_VIDEO_CODECS = (
    "a=rtpmap:96 VP8/90000",
    "a=rtcp-fb:96 goog-remb",
    "a=rtcp-fb:96 ccm fir",
    "a=rtcp-fb:96 nack",
    "a=rtcp-fb:96 nack pli",
    "a=rtpmap:97 rtx/90000",
    "a=fmtp:97 apt=96",
    "a=rtpmap:103 H264/90000",
    "a=fmtp:103 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
    "a=rtpmap:45 AV1/90000",
    "a=fmtp:45 level-idx=5;profile=0;tier=0",
)


def chrome(direction: str, kinds: tuple[str, ...] = ("audio", "video")) -> str:
    """Everything beside each medium; names of the local network, TCP and STUN candidates."""
    mids = [str(n) for n in range(len(kinds))]
    lines = [
        "v=0",
        "o=- 4611731400430051336 2 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        f"a=group:BUNDLE {' '.join(mids)}",
        "a=extmap-allow-mixed",
        "a=msid-semantic: WMS stream",
    ]
    for mid, kind in zip(mids, kinds, strict=True):
        audio = kind == "audio"
        lines += [
            f"m={kind} 9 UDP/TLS/RTP/SAVPF {'111 63 0 110' if audio else '96 97 103 45'}",
            "c=IN IP4 0.0.0.0",
            "a=rtcp:9 IN IP4 0.0.0.0",
            *[f"a={candidate}" for candidate in (MDNS, TCP, HOST)],
            f"a=ice-ufrag:{UFRAG}",
            f"a=ice-pwd:{PASSWORD}",
            "a=ice-options:trickle",
            f"a=fingerprint:sha-256 {FINGERPRINT}",
            "a=setup:actpass",
            f"a=mid:{mid}",
            "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
            "a=extmap:2/sendonly http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
            f"a={direction}",
            f"a=msid:stream {kind}",
            "a=rtcp-mux",
            "a=rtcp-rsize",
            *(_AUDIO_CODECS if audio else _VIDEO_CODECS),
            f"a=ssrc:{1000 + int(mid)} cname:x4kT",
            f"a=ssrc:{1000 + int(mid)} msid:stream {kind}",
        ]
        if not audio:
            lines += ["a=ssrc-group:FID 1001 2001", "a=ssrc:2001 cname:x4kT"]
    return sdp(*lines)


def obs(direction: str = "sendonly") -> str:
    """A fingerprint for all media, addresses in m-lines, candidates beside the first medium."""
    both = ("a=rtcp-mux", "a=setup:actpass", f"a=ice-ufrag:{UFRAG}", f"a=ice-pwd:{PASSWORD}")
    return sdp(
        "v=0",
        "o=rtc 3467813954 0 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0 1",
        "a=group:LS 0 1",
        "a=msid-semantic:WMS *",
        "a=ice-options:ice2,trickle",
        f"a=fingerprint:sha-256 {FINGERPRINT}",
        "m=audio 50001 UDP/TLS/RTP/SAVPF 111",
        "c=IN IP4 192.0.2.10",
        "a=mid:0",
        f"a={direction}",
        "a=ssrc:1 cname:obs",
        "a=ssrc:1 msid:obs-stream obs-audio",
        "a=msid:obs-stream obs-audio",
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 minptime=10;maxaveragebitrate=96000;stereo=1;sprop-stereo=1;useinbandfec=1",
        *both,
        f"a={HOST}",
        "a=end-of-candidates",
        "m=video 50001 UDP/TLS/RTP/SAVPF 96",
        "c=IN IP4 192.0.2.10",
        "a=mid:1",
        f"a={direction}",
        "a=ssrc:2 cname:obs",
        "a=msid:obs-stream obs-video",
        "a=rtpmap:96 H264/90000",
        "a=rtcp-fb:96 nack",
        "a=rtcp-fb:96 nack pli",
        "a=fmtp:96 profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1",
        *both,
    )


def gstreamer(direction: str = "sendonly") -> str:
    """Long mids; the second medium has no port of its own and repeats nothing of the first."""
    return sdp(
        "v=0",
        "o=- 7131847512 0 IN IP4 0.0.0.0",
        "s=-",
        "t=0 0",
        "a=ice-options:trickle",
        "a=group:BUNDLE video0 audio1",
        "m=video 9 UDP/TLS/RTP/SAVPF 96 97",
        "c=IN IP4 0.0.0.0",
        "a=setup:actpass",
        f"a=ice-ufrag:{UFRAG}",
        f"a=ice-pwd:{PASSWORD}",
        "a=bundle-only",
        "a=rtcp-mux",
        "a=rtcp-rsize",
        f"a={direction}",
        "a=rtpmap:96 VP8/90000",
        "a=rtcp-fb:96 nack pli",
        "a=rtpmap:97 rtx/90000",
        "a=fmtp:97 apt=96",
        "a=ssrc:2 msid:user video-stream0",
        "a=ssrc:2 cname:user",
        "a=mid:video0",
        f"a=fingerprint:sha-256 {FINGERPRINT}",
        "m=audio 0 UDP/TLS/RTP/SAVPF 111",
        "c=IN IP4 0.0.0.0",
        "a=bundle-only",
        f"a={direction}",
        "a=rtpmap:111 OPUS/48000/2",
        "a=mid:audio1",
    )


def terse(direction: str = "sendonly") -> str:
    """One medium and no BUNDLE; all that may stand before the media does, with bare line feeds."""
    return sdp(
        "v=0",
        "o=- 1 1 IN IP6 ::1",
        "s=-",
        "t=0 0",
        f"a={direction}",
        "a=setup:active",
        f"a=ice-ufrag:{UFRAG}",
        f"a=ice-pwd:{PASSWORD}",
        f"a=fingerprint:SHA-256 {FINGERPRINT.lower()}",
        f"a=fingerprint:md5 {FINGERPRINT[:47]}",
        "m=audio 9 UDP/TLS/RTP/SAVPF 96",
        "a=mid:voice",
        "a=rtcp-mux",
        "a=rtcp-mux-only",
        "a=rtpmap:96 opus/48000/2",
    ).replace("\r\n", "\n")


def mutated(text: str, random_: random.Random) -> bytes:
    """An offer with one to six random mistakes."""
    lines = text.split("\r\n")
    for _ in range(random_.randint(1, 6)):
        place = random_.randrange(len(lines))
        line = lines[place]
        match random_.randrange(9):
            case 0:
                del lines[place]
                lines = lines or [""]
            case 1:
                lines.insert(place, random_.choice(lines))
            case 2:
                other = random_.randrange(len(lines))
                lines[place], lines[other] = lines[other], line
            case 3:
                cut = random_.randint(0, len(line))
                lines[place] = line[:cut] + chr(random_.randint(0, 255)) + line[cut + 1 :]
            case 4:
                lines[place] = line[: random_.randint(0, len(line))]
            case 5:
                digits = [n for n, letter in enumerate(line) if letter.isdigit()]
                if digits:
                    at = random_.choice(digits)
                    number = random_.choice(["-1", "", "99999999999999999999", "x", "1e9", " "])
                    lines[place] = line[:at] + number + line[at + 1 :]
            case 6:
                lines = lines[: max(1, place)]
            case 7:
                words = line.split(" ")
                random_.shuffle(words)
                lines[place] = " ".join(words)
            case 8:
                lines[place : place + 1] = [line] * random_.choice([2, 20, 200])
    return "\r\n".join(lines).encode("latin-1")
