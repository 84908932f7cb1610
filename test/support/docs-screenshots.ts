/**
 * Takes the screenshots of the docs (`npm run docs:screenshots`): runs the tests that show these pages in Chromium, and
 * copies what they have saved.
 */
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const root = join(import.meta.dirname, '../..')

/** The images in docs, and the screenshots that the tests save. */
const images: Readonly<Record<string, string>> = {
  'console-overview.png': 'overview-1280-light.png',
  'console-job.png': 'job-bulk-running-1280-light.png',
  'job-page.png': 'job-light.png',
}

const directory = mkdtempSync(join(tmpdir(), 'accepted-screenshots-'))
try {
  const { status } = spawnSync('npm', ['test', '--', 'test/clients/console.test.ts', 'test/clients/pages.long.ts'], {
    cwd: root,
    env: { ...process.env, SCREENSHOTS: directory },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  if (status !== 0) throw new Error(`The tests failed: run them with SCREENSHOTS=${directory}`)
  for (const [image, screenshot] of Object.entries(images)) {
    copyFileSync(join(directory, screenshot), join(root, 'docs', image))
    console.log(`docs/${image}`)
  }
} finally {
  rmSync(directory, { recursive: true, force: true })
}
