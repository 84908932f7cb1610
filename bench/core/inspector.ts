import { once } from 'node:events'

/** Returns the environment variable that sets the inspector port of a Node.js process. */
export const inspectable = (port: number): NodeJS.ProcessEnv => ({ NODE_OPTIONS: `--inspect-port=127.0.0.1:${port}` })

/** Bounds how long an inspector may take to open, and how long it may take to answer a message. */
const inspectorTimeoutMs = 30_000

/** A client of the Chrome DevTools Protocol. */
interface Inspector {
  send<Answer>(method: string, params?: object): Promise<Answer>
  close(): void
}

async function openInspector(pid: number, port: number): Promise<Inspector> {
  // This signal makes Node.js open its inspector.
  process.kill(pid, 'SIGUSR1')
  const socket = new WebSocket(await inspectorUrl(port))
  await once(socket, 'open', { signal: AbortSignal.timeout(inspectorTimeoutMs) })
  let id = 0
  return {
    async send(method, params = {}) {
      const signal = AbortSignal.timeout(inspectorTimeoutMs)
      socket.send(JSON.stringify({ id: ++id, method, params }))
      const [{ data }] = await once(socket, 'message', { signal })
      const { error, result } = JSON.parse(data)
      if (error) throw new Error(`${method}: ${error.message}`)
      return result
    },
    close: () => socket.close(),
  }
}

async function inspectorUrl(port: number): Promise<string> {
  const deadline = performance.now() + inspectorTimeoutMs
  for (;;) {
    const response = await fetch(`http://127.0.0.1:${port}/json/list`).catch(() => undefined)
    const [target] = response ? ((await response.json()) as { webSocketDebuggerUrl: string }[]) : []
    if (target) return target.webSocketDebuggerUrl
    if (performance.now() > deadline) throw new Error(`The inspector at port ${port} did not open`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** Makes a Node.js process collect its garbage. The memory that remains is in use. */
export async function collectGarbage(pid: number, port: number): Promise<void> {
  const inspector = await openInspector(pid, port)
  try {
    await inspector.send('HeapProfiler.collectGarbage')
  } finally {
    inspector.close()
  }
}

/** A CPU profile: `Profiler.Profile` of the Chrome DevTools Protocol. */
export interface Profile {
  nodes: {
    id: number
    callFrame: { functionName: string; url: string; lineNumber: number }
    children?: number[]
  }[]
  samples: number[]
  /** In microseconds. */
  timeDeltas: number[]
}

/** Records a CPU profile of a Node.js process while `work` runs. */
export async function profileWhile(pid: number, port: number, work: () => Promise<unknown>): Promise<Profile> {
  const inspector = await openInspector(pid, port)
  try {
    await inspector.send('Profiler.enable')
    await inspector.send('Profiler.start')
    await work()
    return (await inspector.send<{ profile: Profile }>('Profiler.stop')).profile
  } finally {
    inspector.close()
  }
}
