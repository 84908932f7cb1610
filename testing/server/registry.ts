import { link, lstat, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { uuid7 } from '../../src/primitives/uuid.ts'

/** How test processes reach the process that runs their test server. */
export interface Registration {
  /** The port on 127.0.0.1. */
  port: number
  /** Connections must send it first. */
  token: string
  /** The data directory of its Postgres; undefined if DATABASE_URL names another server. */
  dataDir: string | undefined
}

/** A registration, with the number of its server. A later server for the same tests has a higher number. */
export interface Entry extends Registration {
  number: number
}

const { uid, username } = userInfo()

/** Contains the registrations. Only this user can read them, because they lead to a server as its superuser. */
const directory = join(tmpdir(), `accepted-testing-${uid < 0 ? username : uid}`)

const fileOf = (name: string, number: number) => join(directory, `${name}.${number}.json`)

/** @throws Error when the directory belongs to another user */
async function prepareDirectory(): Promise<void> {
  await mkdir(directory, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error
  })
  const found = await lstat(directory)
  const isOwn = uid < 0 || (found.uid === uid && (found.mode & 0o077) === 0)
  if (!found.isDirectory() || !isOwn) {
    throw new Error(`${directory} belongs to another user, or other users can read it: remove it, or set TMPDIR.`)
  }
}

/** Returns all registrations of a name, the newest first. */
export async function readEntries(name: string): Promise<Entry[]> {
  await prepareDirectory()
  const numbers = (await readdir(directory)).flatMap((file) =>
    file.startsWith(`${name}.`) && file.endsWith('.json') ? Number(file.slice(name.length + 1, -'.json'.length)) : [],
  )
  const read = async (number: number): Promise<Entry[]> => {
    // The server may have removed its file in the meantime.
    const text = await readFile(fileOf(name, number), 'utf8').catch(() => undefined)
    return text ? [{ ...(JSON.parse(text) as Registration), number }] : []
  }
  return (await Promise.all(numbers.sort((a, b) => b - a).map(read))).flat()
}

/**
 * Registers a server.
 *
 * @returns false when another process has registered a server with this number
 */
export async function register(name: string, number: number, registration: Registration): Promise<boolean> {
  await prepareDirectory()
  // The file gets its name with its content. Only one process can create the link.
  const unnamed = join(directory, uuid7())
  await writeFile(unnamed, JSON.stringify(registration), { mode: 0o600 })
  try {
    await link(unnamed, fileOf(name, number))
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  } finally {
    await rm(unnamed)
  }
}

export const unregister = (name: string, number: number): Promise<void> => rm(fileOf(name, number), { force: true })
