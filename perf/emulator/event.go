package emulator

// Mark begins each line of the console that is an [Event] in JSON.
const Mark = "@@isthmus "

// Paths in the guest.
const (
	PlanPath   = "/plan.json" // a Plan
	SourcePath = "/src"       // the tree whose tests run
)

// Plan is what a guest does.
type Plan struct {
	Modules []string // files of kernel modules, each after those it needs
	Jobs    []Job
}

// Event is what a guest tells.
type Event struct {
	Kind   string // "boot"; "fail" or "skip" of a test; "job" for the end of a job; "end"; and of QEMU "used", for its CPU time
	Job    string `json:",omitempty"`
	Test   string `json:",omitempty"`
	Text   string `json:",omitempty"` // why a test was skipped; output of what failed; the kernel's release
	Pages  int    `json:",omitempty"` // of memory: their size in bytes
	OK     bool   `json:",omitempty"` // of a job
	Passed int    `json:",omitempty"` // tests of a job
	Millis int64  `json:",omitempty"`
	Used   int64  `json:",omitempty"` // CPU time of a job, in ms
}
