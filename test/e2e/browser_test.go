//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// webPage opens MLflow's page through port-forward in a real browser and waits for the registered model to show.
func webPage(t *testing.T, l *lab) {
	page := l.forward(t) + "/#/models"
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(chromium(t)),
		chromedp.NoSandbox, // the tests run as root, where Chromium's sandbox refuses to start
		chromedp.Flag("disable-quic", true),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.WindowSize(1280, 800),
	)
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	err := chromedp.Do(ctx,
		chromedp.Navigate(page),
		chromedp.WaitVisible(chromedp.Search(`//a[normalize-space(.)="iris"]`)),
	)
	if err != nil {
		t.Fatalf("%s does not show the registered model iris: %v", page, err)
	}
	title, err := chromedp.Run(ctx, chromedp.Title())
	if err != nil {
		t.Fatal(err)
	}
	screenshot, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(title, "MLflow") {
		t.Errorf("the page's title is %q", title)
	}
	// Kept for the eye: what a person would have seen.
	file := filepath.Join(l.root, "bin", "e2e-models.png")
	if err := os.WriteFile(file, screenshot, 0o600); err != nil {
		t.Error(err)
	}
	t.Logf("screenshot: %s (%d bytes)", file, len(screenshot))
}

// chromium returns the browser, installing Debian's package where there is none.
func chromium(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("chromium"); err == nil {
		return path
	}
	t.Log("installing Debian's package chromium (about a minute)")
	install := exec.CommandContext(t.Context(), "apt-get", "install", "--yes", "--no-install-recommends", "chromium")
	install.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("apt-get install chromium: %v\n%s", err, out)
	}
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal(err)
	}
	return path
}
