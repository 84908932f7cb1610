/**
 * Does what docs/getting-started.md says, from an empty directory, with the package as `npm publish` would send it. Needs
 * a build, and a registry for the other packages.
 */
import { execFileSync } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { type Page, parsePage } from '../docs/markdown.ts'
import { playPage } from '../docs/session.ts'
import { createWorkplace } from './package-managers.ts'
import { startRegistry } from './registry.ts'

const name = 'docs/getting-started.md'
const ofExistingApp = '\n## An existing app\n'

const timeout = 900_000
t.setTimeout(timeout)

const text = await readFile(join(import.meta.dirname, '../..', name), 'utf8')
const [newApp = '', existingApp = ''] = text.split(ofExistingApp)
const chapters = { 'new app': newApp, 'existing app': existingApp }

/** Returns the commands with which users of pnpm do the same. */
const withPnpm = (commands: string) =>
  commands
    .replaceAll('npx accepted init', 'pnpm dlx accepted init')
    .replaceAll('npx accepted', 'pnpm exec accepted')
    .replaceAll('npm install --save-dev', 'pnpm add --save-dev --config.strict-dep-builds=false')
    .replaceAll(/\bnpm install(?= \w)/g, 'pnpm add')
    .replaceAll(/\bnpm (install|run|test)\b/g, 'pnpm $1')

function chapterFor(manager: string, chapter: string): Page {
  const page = parsePage(name, chapter)
  if (manager === 'npm') return page
  return { ...page, blocks: page.blocks.map((block) => ({ ...block, text: withPnpm(block.text) })) }
}

t.test('getting started leads to a result', { timeout }, async (t) => {
  const { env, createDirectory } = await createWorkplace(t, await startRegistry(t))
  for (const [title, chapter] of Object.entries(chapters)) {
    for (const manager of ['npm', 'pnpm']) {
      await t.test(`in ${title === 'new app' ? 'a' : 'an'} ${title} with ${manager}`, { timeout }, async (t) => {
        const page = chapterFor(manager, chapter)
        const programs = page.blocks.filter(({ marker }) => marker === 'start')
        t.ok(programs.length > 0 && page.blocks.some((block) => block.text.includes('/result')), 'it shows a result')
        const directory = await createDirectory(`${title.replace(' ', '-')}-${manager}`)
        // An existing app has a package.json.
        if (title === 'existing app') execFileSync('npm', ['init', '--yes'], { cwd: directory, env })
        await playPage(t, page, { startsPostgres: true, directory, env })
      })
    }
  }
})
