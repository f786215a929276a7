// The TypeScript quickstart, run as its reader would run it.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { copyFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import * as kit from '../kit.mjs';

let world;
before(async () => (world = await kit.world()));
after(() => world.end());

test('the quickstart works twice', async () => {
  // Node looks for the SDK beside the file, as it would in the reader's own directory.
  const copy = join(import.meta.dirname ?? new URL('.', import.meta.url).pathname, 'quickstart.copy.mjs');
  copyFileSync(join(kit.ROOT, 'examples/typescript/quickstart.mjs'), copy);
  try {
    const env = kit.cleanEnvironment({ ANTHROPIC_BASE_URL: world.server.url, ANTHROPIC_API_KEY: kit.KEY });
    for (let n = 0; n < 2; n += 1) {
      const task = kit.script(kit.bash(`echo file number ${n} | tee n.txt`), { echo_results: true });
      const { stdout } = await promisify(execFile)(process.execPath, [copy, task], { env, timeout: 90_000 });
      assert.ok(stdout.includes(`file number ${n}`), stdout);
    }
  } finally {
    rmSync(copy, { force: true });
  }
});
