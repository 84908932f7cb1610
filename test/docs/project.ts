import { chmod, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Test } from 'tap'
import { root } from './markdown.ts'

/** A directory with links to the files of the checkout. A page can add files without changing the checkout. */
export interface Project {
  directory: string
  write(file: string, text: string): Promise<void>
}

/** Creates a project. Removes it when the test ends. */
export async function createProject(t: Test): Promise<Project> {
  const directory = await mkdtemp(join(tmpdir(), 'accepted-docs-'))
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  // If root runs the tests, Postgres runs as another user. That user needs access to the directory.
  await chmod(directory, 0o755)
  const linkAll = async (from: string, to: string, except: readonly string[]) => {
    for (const name of await readdir(from)) {
      if (!except.includes(name)) await symlink(join(from, name), join(to, name))
    }
  }
  await linkAll(root, directory, ['.git', '.data', '.tap', 'examples'])
  await mkdir(join(directory, 'examples'))
  await linkAll(join(root, 'examples'), join(directory, 'examples'), [])
  return projectIn(directory)
}

/** Returns the project in a directory that exists. */
export const projectIn = (directory: string): Project => ({
  directory,
  async write(file, text) {
    const path = join(directory, file)
    await mkdir(dirname(path), { recursive: true })
    await writeFile(path, text, { flag: 'wx' })
  },
})
