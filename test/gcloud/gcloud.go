// Package gcloud is a double of Google's gcloud for tests: it knows the commands that the plugin uses, refuses arguments that
// gcloud would refuse, and keeps what they make. What it says on failures is what gcloud 528 says.
package gcloud

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Cloud is what there is at Google. It is JSON, so that a process can leave it to the next one.
type Cloud struct {
	Projects  map[string]string              // number by ID
	Services  map[string][]string            // enabled APIs by project
	Buckets   map[string]string              // project by URL
	Open      bool                           // buckets can be public
	Accounts  map[string]string              // project by address
	Policies  map[string]map[string][]string // members by role by what they are on
	Instances map[string]*Instance           // by project/name
	Keys      map[string]int                 // number of keys by address
	Journal   []string                       // commands that came, "sql users create mlflow"

	LoggedOut bool
	Forbidden []string          // beginnings of commands that are not allowed
	Broken    map[string]string // what gcloud says, and fails, by beginnings of commands
	Late      int               // how many calls of Cloud SQL come before the API, which was just enabled, is there
	Slow      int               // how many bindings fail because a service account is not known everywhere yet
}

// Instance is one of Cloud SQL.
type Instance struct {
	Region, Version, State string
	Addresses              []string // PRIMARY, PRIVATE
	PSC                    bool
	Flags                  map[string]string
	Databases              []string
	Users                  map[string]string // type, or SHA-256 of the password, by name
}

// New is a project my-project with a running instance mlops in europe-west1, and nothing else.
func New() *Cloud {
	return &Cloud{
		Projects: map[string]string{"my-project": "123456789012"},
		Services: map[string][]string{}, Buckets: map[string]string{}, Accounts: map[string]string{}, Policies: map[string]map[string][]string{}, Keys: map[string]int{},
		Instances: map[string]*Instance{"my-project/mlops": {
			Region: "europe-west1", Version: "POSTGRES_17", State: "RUNNABLE", Addresses: []string{"PRIMARY", "OUTGOING"},
			Flags: map[string]string{"cloudsql.iam_authentication": "on"}, Databases: []string{"postgres"}, Users: map[string]string{"postgres": ""},
		}},
	}
}

// PasswordOf is what Users has of a password.
func PasswordOf(password string) string {
	sum := sha256.Sum256([]byte(password))
	return hex.EncodeToString(sum[:])
}

// syntax is what a command takes: number of names, and flags.
func syntax() map[string]struct {
	names int // -1: one or more
	flags string
} {
	type s = struct {
		names int
		flags string
	}
	binding := "--role --member --condition"
	return map[string]s{
		"services list":                               {0, "--enabled --project --format"},
		"services enable":                             {-1, "--project"},
		"projects describe":                           {1, "--format"},
		"projects get-iam-policy":                     {1, "--format"},
		"projects add-iam-policy-binding":             {1, binding},
		"storage buckets describe":                    {1, "--format"},
		"storage buckets create":                      {1, "--project --location --uniform-bucket-level-access --public-access-prevention"},
		"storage buckets get-iam-policy":              {1, "--format"},
		"storage buckets add-iam-policy-binding":      {1, binding},
		"iam service-accounts list":                   {0, "--project --filter --format"},
		"iam service-accounts create":                 {1, "--project --display-name"},
		"iam service-accounts get-iam-policy":         {1, "--project --format"},
		"iam service-accounts add-iam-policy-binding": {1, binding + " --project"},
		"iam service-accounts keys create":            {1, "--iam-account --project"},
		"sql instances describe":                      {1, "--project --format"},
		"sql databases list":                          {0, "--instance --project --format"},
		"sql databases create":                        {1, "--instance --project"},
		"sql users list":                              {0, "--instance --project --format"},
		"sql users create":                            {1, "--instance --project --type --flags-file"},
	}
}

type call struct {
	command string
	names   []string
	flags   map[string]string
	stdin   []byte
}

// Exec runs one gcloud. Its exit code is gcloud's.
func (c *Cloud) Exec(args []string, stdin []byte) (stdout, stderr string, code int) {
	to, complaint := parse(args, stdin)
	if complaint != "" {
		return "", "ERROR: (gcloud) " + complaint + "\n", 2
	}
	c.Journal = append(c.Journal, strings.TrimSpace(to.command+" "+strings.Join(to.names, " ")))
	prefix := "ERROR: (gcloud." + strings.ReplaceAll(to.command, " ", ".") + ") "
	if c.LoggedOut {
		return "", prefix + "You do not currently have an active account selected.\nPlease run:\n\n  $ gcloud auth login\n\nto obtain new credentials.\n", 1
	}
	for begins, said := range c.Broken {
		if strings.HasPrefix(to.command, begins) {
			return "", prefix + said + "\n", 1
		}
	}
	for _, begins := range c.Forbidden {
		if strings.HasPrefix(to.command, begins) {
			return "", prefix + "[me@example.com] does not have permission to access projects instance [my-project] (or it may not exist): The caller does not have permission\n", 1
		}
	}
	out, complaint := c.run(to)
	if complaint != "" {
		return "", prefix + complaint + "\n", 1
	}
	return out, "done.\n", 0
}

// Writes are those commands of the journal that change something.
func (c *Cloud) Writes() []string {
	return slices.DeleteFunc(slices.Clone(c.Journal), func(command string) bool {
		return slices.ContainsFunc([]string{" list", " describe", " get-iam-policy"}, func(reads string) bool { return strings.Contains(command, reads) })
	})
}

func parse(args []string, stdin []byte) (call, string) {
	to := call{flags: map[string]string{}, stdin: stdin}
	var words []string
	for _, arg := range args {
		if name, value, _ := strings.Cut(arg, "="); strings.HasPrefix(arg, "--") {
			to.flags[name] = value
		} else {
			words = append(words, arg)
		}
	}
	for n := len(words); n > 0; n-- {
		s, known := syntax()[strings.Join(words[:n], " ")]
		if !known {
			continue
		}
		to.command, to.names = strings.Join(words[:n], " "), words[n:]
		if s.names >= 0 && len(to.names) != s.names || s.names < 0 && len(to.names) == 0 {
			return to, fmt.Sprintf("%s: wrong number of arguments: %q", to.command, to.names)
		}
		for name := range to.flags {
			if !slices.Contains(strings.Fields(s.flags), name) {
				return to, fmt.Sprintf("%s: unrecognized arguments: %s", to.command, name)
			}
		}
		return to, ""
	}
	return to, fmt.Sprintf("Invalid choice: %q", words)
}

func (c *Cloud) run(to call) (stdout, complaint string) {
	project := to.flags["--project"]
	switch group, verb, _ := strings.Cut(to.command, " "); {
	case verb == "describe" && group == "projects":
		if c.Projects[to.names[0]] == "" {
			return "", "NOT_FOUND: project"
		}
		return show(map[string]string{"projectId": to.names[0], "projectNumber": c.Projects[to.names[0]]})
	case strings.HasSuffix(verb, "get-iam-policy"):
		return c.policy(to.names[0])
	case strings.HasSuffix(verb, "add-iam-policy-binding"):
		return c.bind(to)
	case group == "services":
		return c.services(to, project)
	case group == "storage":
		return c.storage(to, project)
	case group == "iam":
		return c.iam(to, project)
	default:
		return c.sql(to, project)
	}
}

func (c *Cloud) policy(on string) (string, string) {
	type binding struct {
		Role    string   `json:"role"`
		Members []string `json:"members"`
	}
	var bindings []binding
	for role, members := range c.Policies[on] {
		bindings = append(bindings, binding{role, members})
	}
	return show(map[string]any{"bindings": bindings, "etag": "BwY="})
}

func (c *Cloud) bind(to call) (string, string) {
	if to.flags["--condition"] != "None" {
		return "", "Adding a binding without specifying a condition to a policy containing conditions is prohibited in non-interactive mode. Run the command again with `--condition=None`"
	}
	on, member := to.names[0], to.flags["--member"]
	account, is := strings.CutPrefix(member, "serviceAccount:")
	if is && !strings.Contains(account, "[") && !strings.HasSuffix(account, "@developer.gserviceaccount.com") {
		if c.Slow > 0 || c.Accounts[account] == "" {
			c.Slow--
			return "", "INVALID_ARGUMENT: Service account " + account + " does not exist."
		}
	}
	if c.Policies[on] == nil {
		c.Policies[on] = map[string][]string{}
	}
	c.Policies[on][to.flags["--role"]] = append(c.Policies[on][to.flags["--role"]], member)
	return c.policy(on)
}

func (c *Cloud) services(to call, project string) (string, string) {
	if to.command == "services enable" {
		c.Services[project] = append(c.Services[project], to.names...)
		return "", ""
	}
	var enabled []map[string]any
	for _, name := range c.Services[project] {
		enabled = append(enabled, map[string]any{"config": map[string]string{"name": name}, "state": "ENABLED"})
	}
	return show(enabled)
}

func (c *Cloud) storage(to call, project string) (string, string) {
	url := to.names[0]
	if to.command == "storage buckets create" {
		c.Buckets[url] = project
		return "", ""
	}
	if c.Buckets[url] == "" {
		return "", url + " not found: 404."
	}
	prevention := "enforced"
	if c.Open {
		prevention = "inherited"
	}
	return show(map[string]any{"name": strings.TrimPrefix(url, "gs://"), "uniform_bucket_level_access": !c.Open, "public_access_prevention": prevention})
}

func (c *Cloud) iam(to call, project string) (string, string) {
	switch to.command {
	case "iam service-accounts create":
		c.Accounts[to.names[0]+"@"+project+".iam.gserviceaccount.com"] = project
		return "", ""
	case "iam service-accounts keys create":
		account := to.flags["--iam-account"]
		if c.Accounts[account] == "" || to.names[0] != "-" {
			return "", "NOT_FOUND: Unknown service account"
		}
		c.Keys[account]++
		return show(map[string]string{"type": "service_account", "client_email": account, "private_key": "SECRET-KEY-OF-" + account, "private_key_id": "abc123"})
	}
	found := []map[string]string{}
	for address := range c.Accounts {
		if to.flags["--filter"] == "email="+address {
			found = append(found, map[string]string{"email": address})
		}
	}
	return show(found)
}

func (c *Cloud) sql(to call, project string) (string, string) {
	if !slices.Contains(c.Services[project], "sqladmin.googleapis.com") {
		return "", "PERMISSION_DENIED: Cloud SQL Admin API has not been used in project 123 before or it is disabled. Enable it by visiting " +
			"https://console.developers.google.com/apis/api/sqladmin.googleapis.com/overview?project=123 then retry."
	}
	if c.Late > 0 {
		c.Late--
		return "", "PERMISSION_DENIED: Cloud SQL Admin API has not been used in project 123 before or it is disabled. Enable it by visiting " +
			"https://console.developers.google.com/apis/api/sqladmin.googleapis.com/overview?project=123 then retry. " +
			"If you enabled this API recently, wait a few minutes for the action to propagate to our systems and retry."
	}
	name := to.flags["--instance"]
	if to.command == "sql instances describe" {
		name = to.names[0]
	}
	at := c.Instances[project+"/"+name]
	if at == nil {
		return "", "notFound: The Cloud SQL instance does not exist."
	}
	switch to.command {
	case "sql instances describe":
		return at.show()
	case "sql databases create":
		at.Databases = append(at.Databases, to.names[0])
		return "", ""
	case "sql databases list":
		return show(named(at.Databases))
	case "sql users list":
		names := make([]string, 0, len(at.Users))
		for name := range at.Users {
			names = append(names, name)
		}
		return show(named(names))
	}
	kind := to.flags["--type"]
	if to.flags["--flags-file"] == "-" {
		var given map[string]string
		if err := json.Unmarshal(to.stdin, &given); err != nil || given["--password"] == "" {
			return "", "the flags on standard input have no password"
		}
		kind = PasswordOf(given["--password"])
	}
	at.Users[to.names[0]] = kind
	return "", ""
}

func (i *Instance) show() (string, string) {
	flags, addresses := []map[string]string{}, []map[string]string{}
	for name, value := range i.Flags {
		flags = append(flags, map[string]string{"name": name, "value": value})
	}
	for _, kind := range i.Addresses {
		addresses = append(addresses, map[string]string{"ipAddress": "192.0.2.1", "type": kind})
	}
	return show(map[string]any{
		"databaseVersion": i.Version, "region": i.Region, "state": i.State, "ipAddresses": addresses,
		"settings": map[string]any{"databaseFlags": flags, "ipConfiguration": map[string]any{"pscConfig": map[string]bool{"pscEnabled": i.PSC}}},
	})
}

func named(names []string) []map[string]string {
	found := []map[string]string{}
	for _, name := range names {
		found = append(found, map[string]string{"name": name})
	}
	return found
}

func show(v any) (string, string) {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return "", err.Error()
	}
	return string(text) + "\n", ""
}
