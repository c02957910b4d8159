package model

import (
	"cmp"
	"regexp"
	"strings"

	yaml "go.yaml.in/yaml/v3"
)

const condaFile = "conda.yaml"

// conda is what a conda.yaml says: pip's part, and what conda itself would install.
type conda struct {
	python string   // "3.11.7", or "" where it does not say
	pip    []string // lines of requirements
	others []string // conda's own packages, without Python and pip
}

// condaPath is the name of the model's conda.yaml. Older MLflow writes it as the flavor's env, newer as env.conda.
func (d *mlmodel) condaPath() string {
	env := d.Flavors["python_function"]["env"]
	if env.Kind == yaml.ScalarNode {
		return cmp.Or(d.Flavors["python_function"].text("env"), condaFile)
	}
	for i := 0; i+1 < len(env.Content); i += 2 {
		if env.Content[i].Value == "conda" {
			return cmp.Or(env.Content[i+1].Value, condaFile)
		}
	}
	return condaFile
}

// condaPackage is a package in conda's words, channel::name=version=build, and its name.
func condaPackage() *regexp.Regexp {
	return regexp.MustCompile(`^(?:[^\s:]+::)?([A-Za-z0-9_.-]+)`)
}

// condaPython is the version in python=3.11.7, python==3.11 and the like.
func condaPython() *regexp.Regexp {
	return regexp.MustCompile(`^(?:[^\s:]+::)?python\s*[=~]=?\s*([0-9]+\.[0-9]+(?:\.[0-9]+)?)`)
}

func parseConda(file string, text []byte) (*conda, error) {
	var doc struct {
		Dependencies []yaml.Node `yaml:"dependencies"`
	}
	if err := decode(file, text, &doc); err != nil {
		return nil, err
	}
	c := &conda{}
	var pip []string
	for _, n := range doc.Dependencies {
		if n.Kind == yaml.ScalarNode {
			switch name := condaPackage().FindStringSubmatch(n.Value); {
			case name == nil:
				return nil, invalid(file, n.Line, "%q is not a package", n.Value)
			case strings.EqualFold(name[1], "python"):
				if version := condaPython().FindStringSubmatch(n.Value); version != nil {
					c.python = version[1]
				}
			case strings.EqualFold(name[1], "pip"):
			default:
				c.others = append(c.others, n.Value)
			}
			continue
		}
		var part struct {
			Pip []string `yaml:"pip"`
		}
		if err := n.Decode(&part); err != nil {
			return nil, invalid(file, n.Line, "is neither a package nor pip's part")
		}
		pip = append(pip, part.Pip...)
	}
	var err error
	c.pip, err = requirementLines(file, []byte(strings.Join(pip, "\n")))
	return c, err
}
