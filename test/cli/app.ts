import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Test } from 'tap'

const root = join(import.meta.dirname, '../..')

/** The files of an app that starts. */
export const validApp = {
  'package.json': '{"type":"module"}',
  'accepted.config.js': `
    import { defineConfig } from 'accepted'
    import * as operations from './operations.js'
    export default defineConfig({ operations, handlers: './handlers.js', routes: './routes.js' })`,
  'operations.js': `
    import { defineOperation } from 'accepted'
    import Type from 'typebox'
    export const say = defineOperation({ name: 'word.say', input: Type.Object({}) })`,
  'handlers.js': `
    import { defineHandlers } from 'accepted/worker'
    import * as operations from './operations.js'
    export default defineHandlers(operations, { 'word.say': { settle: async () => {} } })`,
  'routes.js': 'export default async () => {}',
} as const

/**
 * Writes an app to a new directory, with `accepted` and `typebox` in its node_modules.
 *
 * @param files replace or extend {@link validApp}; null leaves a file out
 * @returns the directory
 */
export async function writeApp(
  t: Test,
  files: Record<string, string | null> = {},
  packages: readonly string[] = ['accepted', 'typebox'],
): Promise<string> {
  const directory = await realpath(await mkdtemp(join(tmpdir(), 'accepted-app-')))
  t.teardown(() => rm(directory, { recursive: true }))
  for (const [name, content] of Object.entries({ ...validApp, ...files })) {
    const file = join(directory, name)
    await mkdir(dirname(file), { recursive: true })
    if (content !== null) await writeFile(file, content)
  }
  await mkdir(join(directory, 'node_modules'), { recursive: true })
  for (const name of packages) {
    const target = name === 'accepted' ? root : join(root, 'node_modules', name)
    await symlink(target, join(directory, 'node_modules', name))
  }
  return directory
}
