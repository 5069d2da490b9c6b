/**
 * Runs one tenant's requests one after another and commits them in groups.
 *
 * Invariants
 * - One request at a time touches the store. Medplum resolves the conditional updates of a transaction Bundle *before* it
 *   opens the transaction; were two requests interleaved, both could find nothing and both create.
 * - No caller sees anything, not even by reading, that is not on the disk yet: answers leave after the group's commit.
 * - A request that fails leaves nothing behind; its neighbours in the group are not touched.
 *
 * Why groups: a commit costs a disk flush; requests that arrived while the last group was being written share the next.
 */
const GROUP = 64;

export class Requests {
  #repository;
  #waiting = [];
  #running = null;

  constructor(repository) {
    this.#repository = repository;
  }

  /**
   * @param {() => Promise<[boolean, T]>} work says whether what it wrote is to be kept, and the answer
   * @returns {Promise<T>} the answer, once whatever was written before it is on the disk
   */
  run(work) {
    const answer = new Promise((resolve, reject) => this.#waiting.push({ work, resolve, reject }));
    this.#running ??= this.#drain();
    return answer;
  }

  /** Waits until everything accepted so far is committed and answered. */
  async finished() {
    await this.#running;
  }

  async #drain() {
    // One turn of the event loop, so that requests which have arrived already get into the first group.
    await new Promise((resolve) => setImmediate(resolve));
    try {
      while (this.#waiting.length) {
        await this.#group(this.#waiting.splice(0, GROUP));
        await new Promise((resolve) => setImmediate(resolve));
      }
    } finally {
      this.#running = null;
    }
  }

  async #group(group) {
    const settled = [];
    try {
      this.#repository.begin();
      for (const { work, resolve, reject } of group) {
        try {
          const answer = await this.#one(work);
          settled.push(() => resolve(answer));
        } catch (error) {
          settled.push(() => reject(error));
        }
      }
      this.#repository.commit();
    } catch (error) {
      // Disk full or broken: nothing of the group is kept, and everyone in it is told.
      this.#repository.rollback();
      group.forEach(({ reject }) => reject(error));
      return;
    }
    settled.forEach((settle) => settle());
  }

  async #one(work) {
    const refused = Symbol('refused');
    let answer;
    try {
      await this.#repository.withTransaction(async () => {
        const [keep, result] = await work();
        answer = result;
        if (!keep) {
          throw refused;
        }
      });
    } catch (error) {
      if (error !== refused) {
        throw error;
      }
    }
    return answer;
  }
}
