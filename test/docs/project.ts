import { chmod, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Test } from 'tap'
import { root } from './markdown.ts'

/** A copy of the checkout, made of links, to which the files of a page can be added. */
export interface Project {
  directory: string
  write(file: string, text: string): Promise<void>
}

/** Makes a project, and removes it with the test. */
export async function createProject(t: Test): Promise<Project> {
  const directory = await mkdtemp(join(tmpdir(), 'accepted-docs-'))
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  // If this runs as root, Postgres runs as another user, who must be able to enter.
  await chmod(directory, 0o755)
  const linkAll = async (from: string, to: string, except: readonly string[]) => {
    for (const name of await readdir(from)) {
      if (!except.includes(name)) await symlink(join(from, name), join(to, name))
    }
  }
  await linkAll(root, directory, ['.git', '.data', '.tap', 'examples'])
  await mkdir(join(directory, 'examples'))
  await linkAll(join(root, 'examples'), join(directory, 'examples'), [])
  return {
    directory,
    async write(file, text) {
      const path = join(directory, file)
      await mkdir(dirname(path), { recursive: true })
      await writeFile(path, text, { flag: 'wx' })
    },
  }
}
