package failure

import "errors"

// The states of a check.
const (
	CheckOK          = "ok"
	CheckFailed      = "failed"
	CheckWarning     = "warning"      // it stands in the way of something that was not asked for
	CheckNotEnforced = "not enforced" // of NetworkPolicies: a warning
	CheckSkipped     = "skipped"
	CheckUnknown     = "unknown"
)

// Checked is what one check found. Its JSON is stable: fields are added, and none changes its meaning.
type Checked struct {
	Name     string `json:"name"`
	State    string `json:"state"`
	Where    string `json:"where,omitempty"`    // what was tried, or seen
	Identity string `json:"identity,omitempty"` // as whom: Google's account, the database's user
	Reason   string `json:"reason,omitempty"`
	Message  string `json:"message,omitempty"` // what is wrong
	Hint     string `json:"hint,omitempty"`
	Docs     string `json:"docs,omitempty"` // URL of what there is to read about it
	Failure  *Error `json:"-"`              // where State is CheckFailed
}

// Fill completes c from what the check returned. Without an error it is CheckOK, unless it says otherwise already. An error that
// explains itself is the check's result, CheckFailed. Any other is given back.
func (c Checked) Fill(err error) (Checked, error) {
	if err == nil {
		if c.State == "" {
			c.State = CheckOK
		}
		return c, nil
	}
	f, ok := errors.AsType[*Error](err)
	if !ok {
		return c, err
	}
	if several, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // errors.Join: all of them are told
		first := *f
		for _, e := range several.Unwrap()[1:] {
			first.Evidence = append(first.Evidence, "and "+e.Error())
		}
		f = &first
	}
	c.State, c.Reason, c.Message, c.Hint, c.Failure = CheckFailed, f.Reason, f.Error(), f.Hint, f
	return c, nil
}

// Unseen is c where err is a right that is missing to look at it: no failure of what is looked at.
func (c Checked) Unseen(err error) Checked {
	c.State, c.Message, c.Hint = CheckUnknown, "it cannot be seen: "+err.Error(), ""
	return c
}

// Warn is c with its failure as a warning.
func (c Checked) Warn() Checked {
	if c.State == CheckFailed {
		c.State, c.Failure = CheckWarning, nil
	}
	return c
}
