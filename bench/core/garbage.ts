import { once } from 'node:events'

/** What a Node.js process needs in its environment so that {@link collectGarbage} finds it. */
export const inspectable = (port: number): NodeJS.ProcessEnv => ({ NODE_OPTIONS: `--inspect-port=127.0.0.1:${port}` })

/** So long an inspector may take to open, and to answer, in milliseconds. */
const patience = 30_000

/** Has a Node.js process collect its garbage, through its inspector: what it has in memory then is in use. */
export async function collectGarbage(pid: number, port: number): Promise<void> {
  // Node.js opens its inspector at this signal.
  process.kill(pid, 'SIGUSR1')
  const socket = new WebSocket(await inspectorOf(port))
  const signal = AbortSignal.timeout(patience)
  try {
    await once(socket, 'open', { signal })
    socket.send(JSON.stringify({ id: 1, method: 'HeapProfiler.collectGarbage' }))
    await once(socket, 'message', { signal })
  } finally {
    socket.close()
  }
}

async function inspectorOf(port: number): Promise<string> {
  const deadline = performance.now() + patience
  for (;;) {
    const response = await fetch(`http://127.0.0.1:${port}/json/list`).catch(() => undefined)
    const [target] = response ? ((await response.json()) as { webSocketDebuggerUrl: string }[]) : []
    if (target) return target.webSocketDebuggerUrl
    if (performance.now() > deadline) throw new Error('The inspector of a process does not open')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
