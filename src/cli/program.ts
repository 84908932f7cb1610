import { createProgram } from './commands.ts'
import { flushOutput } from './flush-output.ts'
import { formatError } from './format-error.ts'

try {
  await createProgram().parseAsync()
} catch (error) {
  console.error(`error: ${formatError(error)}`)
  process.exitCode = 1
}
await flushOutput()
// A connection or timer that the app left open must not keep the process alive.
process.exit()
