/**
 * Runs the fault matrix: `npm run test:fault -- [--short] [--row name]… [--list]`. Prints one line of figures per row;
 * exits 1 when anything is lost, unexpected, duplicated, partial or of a wrong status.
 */
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { rows } from './rows/index.ts'
import { type Server, startServer } from './server.ts'
import { holds, play, print } from './stage.ts'

const { values } = parseArgs({
  options: {
    row: { type: 'string', multiple: true },
    short: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
  },
})

async function run(): Promise<number> {
  const chosen = values.row ? rows.filter(({ name }) => values.row?.includes(name)) : rows
  const unknown = values.row?.filter((name) => !rows.some((row) => row.name === name)) ?? []
  if (unknown.length > 0) {
    console.error(`error: There is no row ${unknown.join(', ')}; --list shows them.`)
    return 1
  }
  if (values.list) {
    for (const { name, summary } of rows) console.log(`${name.padEnd(26)} ${summary}`)
    return 0
  }
  const directory = await mkdtemp(join(tmpdir(), 'accepted-fault-'))
  // As root, Postgres runs as another user, who must come in.
  await chmod(directory, 0o755)
  const root = join(import.meta.dirname, '../..')
  let shared: Promise<Server> | undefined
  const server = () => {
    shared ??= startServer({ dataDir: join(directory, 'server') })
    return shared
  }
  let failed = 0
  try {
    for (const row of chosen) {
      const figures = await play(row, { server, short: values.short, root, directory })
      console.log(print(figures))
      if (!holds(figures)) failed += 1
    }
  } finally {
    await (await shared)?.close()
    if (failed === 0) await rm(directory, { recursive: true, force: true })
    else console.error(`The journals and logs are kept in ${directory}`)
  }
  return failed === 0 ? 0 : 1
}

process.exitCode = await run()
