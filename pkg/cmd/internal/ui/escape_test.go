package ui

import "testing"

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"deployment.apps/mlflow":         "deployment.apps/mlflow",
		"Müller ✓ 模型":                    "Müller ✓ 模型",
		"\x1b[31mred\x1b[0m":             `\x1b[31mred\x1b[0m`,
		"title\x1b]0;rm -rf\a":           `title\x1b]0;rm -rf\a`,
		"over\rwritten":                  `over\rwritten`,
		"two\nlines":                     `two\nlines`,
		"a\tb":                           "a    b",
		"\u202egnp.exe":                  `\u202egnp.exe`,
		"C1 \u009b2J":                    `C1 \u009b2J`,
		"broken \xff utf-8":              "broken \uFFFD utf-8",
		"back\b\b\b\bspace\x7f and \x00": `back\b\b\b\bspace\x7f and \x00`,
	} {
		if got := Escape(in); got != want {
			t.Errorf("Escape(%q) = %q, want %q", in, got, want)
		}
	}
}
