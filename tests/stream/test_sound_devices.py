import os, subprocess, sys
import pytest
from tests.stream.pulse import Pulse, running_pulse
pulse=running_pulse
pytestmark = pytest.mark.devices
def test_x(pulse: Pulse) -> None:
    r=subprocess.run([sys.executable,"-m","tests.stream.sound_loop","measure"],env=os.environ|pulse.environment,capture_output=True,text=True,timeout=30)
    print(r.stdout, r.stderr, r.returncode)
    import json, numpy as np
    d=json.loads(r.stdout)
    left=np.array(d["left"]); held=left[:,1]-left[:,0]
    print("held", held.min(), held.max(), np.median(held), len(held))
    on=np.array(d["onsets"]); print(np.diff(on)); 
    # content of each onset
    air=on-d["microphone_latency_s"]
    print("air mod", air%0.25, "arr - left", (air-np.interp(air, left[:,1], left[:,1])) )
    for a in air:
        h=np.interp(a,left[:,1],held); c=a-h; print(round((c+0.125)%0.25-0.125,4), end=" ")
