import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Control, copyWithout } from './controls.ts'
import { type Server, startServer } from './server.ts'
import { type Figures, play, type Row } from './stage.ts'

/** Plays rows on one Postgres, those that want none of their own. */
export interface Matrix {
  /** Where journals and logs are. */
  directory: string
  play(row: Row): Promise<Figures>
  /** Plays the row of a control against sources without its guards. */
  playWithout(control: Control): Promise<Figures>
  /** @param isClean whether journals and logs are of no interest any more */
  close(isClean: boolean): Promise<void>
}

const root = join(import.meta.dirname, '../..')

/** @param short rows are to be quick */
export async function openMatrix(short: boolean): Promise<Matrix> {
  const directory = await mkdtemp(join(tmpdir(), 'accepted-fault-'))
  // As root, Postgres runs as another user, who must come in.
  await chmod(directory, 0o755)
  // Within the checkout, where modules are found.
  await mkdir(join(root, '.data'), { recursive: true })
  const copies = await mkdtemp(join(root, '.data/fault-'))
  let shared: Promise<Server> | undefined
  const server = () => {
    shared ??= startServer({ dataDir: join(directory, 'server') })
    return shared
  }
  return {
    directory,
    play: (row) => play(row, { server, short, root, directory }),
    async playWithout(control) {
      const copy = join(copies, control.name)
      await copyWithout(control, root, copy)
      return play(control.row, { server, short, root: copy, directory, drainWithin: 30 })
    },
    async close(isClean) {
      await (await shared)?.close()
      await rm(copies, { recursive: true, force: true })
      if (isClean) await rm(directory, { recursive: true, force: true })
    },
  }
}
