// Package parameters binds what can be said of an install to flags, for all commands that take it.
package parameters

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/failure"
	"github.com/kubectl-mlflow/kubectl-mlflow/pkg/trackingserver"
)

// noKustomization is the argument of --kustomize that takes away the kustomization of the last install.
const noKustomization = "none"

// maxFile is how much of a parameters file is read: more is none.
const maxFile = 1 << 20

// Flags is what the user typed.
type Flags struct {
	values    trackingserver.Parameters
	cloudSQL  bool
	files     []string
	kustomize string
}

// Add makes a flag of every parameter.
func Add(flags *pflag.FlagSet) *Flags {
	f := &Flags{}
	flags.StringVar(&f.values.Overlay, "overlay", "", "What is installed: local (PostgreSQL and artifacts on volumes), gcp (artifacts in a bucket), "+
		"gcp-cloudsql (and the database in Cloud SQL). Default: as installed before, else "+trackingserver.DefaultOverlay)
	flags.BoolVar(&f.cloudSQL, "cloudsql", false, "Short for --overlay "+trackingserver.CloudSQLOverlay)
	flags.StringArrayVar(&f.files, "params-file", nil, "File of KEY=VALUE lines with parameters, for instance config.env or params.env; may be repeated, flags win over it")
	flags.StringVarP(&f.kustomize, "kustomize", "k", "", "Directory with a kustomization of yours, which is put on top, for instance ./mlflow-patches; none for that of the last install no more")
	for _, p := range f.values.All() {
		help := p.Help
		if len(p.Overlays) < len(trackingserver.Overlays()) {
			help += " (overlay " + strings.Join(p.Overlays, ", ") + ")"
		}
		name := strings.TrimPrefix(p.Flag, "--")
		if !p.Switch {
			flags.StringVar(p.Value, name, "", help)
			continue
		}
		flags.Var((*onOff)(p.Value), name, help)
		flags.Lookup(name).NoOptDefVal = "true"
	}
	return f
}

// Parameters is what flags and files say. Notes are to be told: where what was said becomes something else than its name says.
func (f *Flags) Parameters(namespace string) (p trackingserver.Parameters, notes []string, err error) {
	p = f.values
	p.Namespace = namespace
	if f.cloudSQL {
		if p.Overlay != "" && p.Overlay != trackingserver.CloudSQLOverlay {
			return p, nil, invalid("--cloudsql", fmt.Sprintf("--overlay %s says otherwise", p.Overlay), "leave one of them out")
		}
		p.Overlay = trackingserver.CloudSQLOverlay
	}
	var files []trackingserver.EnvFile
	for _, name := range f.files {
		text, err := read(name)
		if err != nil {
			return p, nil, err
		}
		files = append(files, trackingserver.EnvFile{Name: name, Text: text})
	}
	if p, notes, err = p.WithFiles(files...); err != nil {
		return p, nil, err
	}
	switch f.kustomize {
	case "":
	case noKustomization:
		p.Kustomization = map[string]string{}
	default:
		if p.Kustomization, err = trackingserver.ReadKustomization(f.kustomize); err != nil {
			return p, nil, err
		}
	}
	return p, notes, p.Validate()
}

func read(name string) (string, error) {
	file, err := os.Open(name) //nolint:gosec // the user's own file
	if err != nil {
		return "", unreadable(name, err)
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = errors.New("it is too large for a file of parameters")
	}
	if err != nil {
		return "", unreadable(name, err)
	}
	return string(text), nil
}

func unreadable(name string, err error) error {
	return &failure.Error{
		Class: failure.Invalid, Reason: "ParamsFile", Object: name, Message: "it cannot be read",
		Hint: "name a file of KEY=VALUE lines with --params-file", Err: err,
	}
}

func invalid(flag, message, hint string) error {
	return &failure.Error{Class: failure.Invalid, Reason: "InvalidParameter", Message: flag + ": " + message, Hint: hint}
}

// onOff is a switch that also can be left as it is.
type onOff string

// Set takes what a boolean flag takes.
func (v *onOff) Set(text string) error {
	on, err := strconv.ParseBool(text)
	if err != nil {
		return errors.New("it is true or false")
	}
	*v = onOff(strconv.FormatBool(on))
	return nil
}

func (v *onOff) String() string { return string(*v) }

// Type is what help and completion go by.
func (v *onOff) Type() string { return "bool" }
