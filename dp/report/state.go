package report

import "github.com/discreet-analytics/discreet/dp"

// State is how a report, a run or a question stands.
type State string

// The states.
const (
	Queued    State = "queued"  // charged, and nothing was asked yet; or scheduled, and waiting for a block
	Running   State = "running" // some questions are answered, or one is being asked
	Done      State = "done"    // all are answered
	Failed    State = "failed"  // all have ended, some without an answer; or the run was refused
	Cancelled State = "cancelled"
)

// StateOf is how a report stands.
func StateOf(r dp.Report) State {
	if !r.Cancelled.IsZero() {
		return Cancelled
	}
	if r.Scheduled {
		for _, run := range r.Runs {
			if s := StateOfRun(run); s == Queued || s == Running {
				return Running
			}
		}
		return Queued
	}
	return StateOfRun(r.Runs[0])
}

// StateOfRun is how one run of it stands.
func StateOfRun(run dp.ReportRun) State {
	if run.Refused != nil {
		return Failed
	}
	ended, begun, failed := 0, false, false
	for _, p := range run.Parts {
		if p.Ended() {
			ended++
		}
		begun = begun || p.Ended() || p.Attempts > 0
		failed = failed || p.Failure != nil
	}
	switch {
	case ended < len(run.Parts) && begun:
		return Running
	case ended < len(run.Parts):
		return Queued
	case failed:
		return Failed
	}
	return Done
}

// StateOfPart is how one question stands.
func StateOfPart(p dp.ReportPart) State {
	switch {
	case p.Release != "":
		return Done
	case p.Failure != nil:
		return Failed
	case p.Attempts > 0:
		return Running
	}
	return Queued
}

// Progress counts the questions of a report that have ended.
func Progress(r dp.Report) (ended, all int) {
	for _, run := range r.Runs {
		for _, p := range run.Parts {
			all++
			if p.Ended() {
				ended++
			}
		}
	}
	return ended, all
}
