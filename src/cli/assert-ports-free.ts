import { createServer } from 'node:net'
import { ConfigError } from '../config.ts'
import type { Settings } from '../settings.ts'
import { startedAs } from './command-line.ts'

/**
 * Checks that API and worker can listen on their ports.
 *
 * @throws ConfigError that names the variable and suggests another port
 */
export async function assertPortsFree({ HOST, PORT, WORKER_PORT }: Settings): Promise<void> {
  await assertFree(HOST, PORT, 'PORT')
  await assertFree(HOST, WORKER_PORT, 'WORKER_PORT')
  if (PORT === WORKER_PORT) {
    throw new ConfigError(
      `PORT and WORKER_PORT are both ${PORT}. Choose another port: ${suggestPort('WORKER_PORT', PORT)}`,
    )
  }
}

async function assertFree(host: string, port: number, variable: string): Promise<void> {
  if (port === 0) throw new ConfigError(`${variable} must not be 0 for \`accepted dev\`. Choose a port.`)
  const server = createServer()
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => server.close(() => resolve()))
  }).catch(({ code }: NodeJS.ErrnoException) => {
    const suggestion = suggestPort(variable, port)
    if (code !== 'EADDRINUSE') {
      throw new ConfigError(`Port ${port} cannot be used (${code}). Choose another port: ${suggestion}`)
    }
    throw new ConfigError(
      `Port ${port} is in use. Stop the program that listens on it, or choose another port: ${suggestion}`,
    )
  })
}

const suggestPort = (variable: string, port: number) =>
  `${variable}=${port + 100 > 65_535 ? port - 100 : port + 100} ${startedAs()}`
