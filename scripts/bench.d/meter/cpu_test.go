package meter

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestNameOfAProcessMayHoldBlanksAndParentheses(t *testing.T) {
	got, err := parseProcess([]byte("42 (a) (b c) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3 1 20 0 1 0 5 6 7\n"))
	want := process{parent: 7, own: 1200 * time.Millisecond, reaped: 40 * time.Millisecond}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, text := range []string{"", "42 (a", "42 (a) S 7", "42 (a) S 7 42 42 0 -1 4194560 1 2 3 4 x 20 3 1 20"} {
		if got, err := parseProcess([]byte(text)); err == nil {
			t.Errorf("%q was read as %+v", text, got)
		}
	}
}

func TestEndedChildrenOfAServerStayInItsSum(t *testing.T) {
	before, err := ServerCPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := exec.Command("sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done").Run(); err != nil {
		t.Fatal(err)
	}
	after, err := ServerCPU(os.Getpid())
	if err != nil || after-before < 50*time.Millisecond {
		t.Errorf("a child that counted to 300,000 took %v, %v", after-before, err)
	}
}

func TestProcessorTimeOfAGoneProcessIsAnError(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if got, err := CPU([]int{cmd.Process.Pid}); err == nil {
		t.Errorf("got %v without an error", got)
	}
}
